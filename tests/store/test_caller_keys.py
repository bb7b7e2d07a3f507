"""Taximeter's own keys in a real store: shown once, found by their digest, limited, revoked."""

import json
from datetime import UTC, datetime, timedelta

import pytest
import redis

from proxy.errors import UsageError
from proxy.store import Store
from proxy.store.caller_keys import digest_of

EXPIRES = datetime(2027, 1, 1, tzinfo=UTC)


async def test_a_key_is_shown_once_and_found_by_its_digest(store: Store, raw: redis.Redis) -> None:
    key = await store.create_key("acme")

    assert key.startswith("tm-")
    assert len(key) >= 3 + 43  # 32 bytes in base64
    found = await store.find_key(digest_of(key))
    assert found is not None
    assert (found.owner, found.digest, found.id) == ("acme", digest_of(key), digest_of(key)[:12])
    assert (found.expires, found.models) == (None, ())
    assert await store.find_key(digest_of(key + "x")) is None
    assert await store.list_keys() == [found]
    assert key not in json.dumps(raw.hgetall("{taximeter}:caller-keys"))


async def test_a_digest_that_only_begins_alike_is_another(store: Store) -> None:
    digest = digest_of(await store.create_key("acme"))
    other = digest[:-1] + ("0" if digest[-1] != "0" else "1")

    assert await store.find_key(other) is None


async def test_limits_are_kept(store: Store) -> None:
    key = await store.create_key("acme", expires=EXPIRES, models=("gpt-4o*", "ft:*"))

    found = await store.find_key(digest_of(key))
    assert found is not None
    assert (found.expires, found.models) == (EXPIRES, ("gpt-4o*", "ft:*"))
    assert (found.is_expired(EXPIRES - timedelta(seconds=1)), found.is_expired(EXPIRES)) == (False, True)


async def test_a_key_is_revoked_by_its_id_or_itself(store: Store) -> None:
    one, other = await store.create_key("acme"), await store.create_key("acme")

    assert (await store.revoke_key(digest_of(one)[:12])).digest == digest_of(one)
    assert (await store.revoke_key(other)).digest == digest_of(other)
    assert await store.find_key(digest_of(one)) is None
    assert await store.list_keys() == []
    for which in (one, "0123456789ab", "", "x"):
        with pytest.raises(UsageError) as refused:
            await store.revoke_key(which)
        assert one not in str(refused.value)


async def test_the_revision_changes_with_every_change(store: Store) -> None:
    seen = [await store.revision()]
    key = await store.create_key("acme")
    seen.append(await store.revision())
    await store.revoke_key(key)
    seen.append(await store.revision())

    assert seen[0] is None
    assert len(set(seen)) == 3


@pytest.mark.parametrize("owner", ["", "Acme", "key-1", "anonymous", "other", "a" * 64, "a b"])
async def test_a_key_needs_an_owner_that_can_be(store: Store, owner: str) -> None:
    with pytest.raises(UsageError):
        await store.create_key(owner)
