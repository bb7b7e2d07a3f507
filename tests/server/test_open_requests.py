"""An owner has at most so many requests open; others are not concerned, and who leaves makes room."""

import pytest

from proxy.budgets import ANONYMOUS, Owner
from proxy.server.open_requests import OpenRequests
from proxy.server.replies import Refused

ACME = Owner("acme", "acme")


def test_an_owner_fills_only_its_own_places() -> None:
    requests = OpenRequests()
    requests.enter(ACME, 2)
    requests.enter(ACME, 2)

    with pytest.raises(Refused) as refused:
        requests.enter(ACME, 2)
    requests.enter(ANONYMOUS, 2)

    assert (refused.value.status, refused.value.code) == (429, "too_many_open_requests")
    assert refused.value.headers == {"x-should-retry": "true", "retry-after": "1"}
    assert "acme has 2 requests open" in refused.value.message
    requests.leave(ACME)
    requests.enter(ACME, 2)
    assert (requests.of(ACME), requests.of(ANONYMOUS)) == (2, 1)


def test_one_that_goes_on_has_its_place_whatever_the_limit() -> None:
    requests = OpenRequests()
    requests.enter(ACME, 1)
    requests.enter(ACME)
    assert requests.of(ACME) == 2
    requests.leave(ACME)
    requests.leave(ACME)
    assert requests.of(ACME) == 0


def test_two_keys_with_the_same_shown_name_do_not_share_places() -> None:
    requests = OpenRequests()
    one, other = Owner.of_identity("key-" + "0" * 64), Owner.of_identity("key-" + "0" * 63 + "1")
    assert one.name == other.name
    requests.enter(one, 1)
    requests.enter(other, 1)
