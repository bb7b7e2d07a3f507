"""Owners: what is shown, and what tells them apart."""

from proxy.budgets import ANONYMOUS, Owner

DIGEST = "1a2b3c4d" + "0" * 56


def test_the_owner_of_a_foreign_key_shows_eight_digits_and_is_the_whole_digest() -> None:
    assert Owner.of_digest(DIGEST) == Owner("key-1a2b3c4d", f"key-{DIGEST}")


def test_an_identity_from_the_store_gives_the_owner_back() -> None:
    for owner in (Owner("acme", "acme"), Owner.of_digest(DIGEST), ANONYMOUS):
        assert Owner.of_identity(owner.identity) == owner
