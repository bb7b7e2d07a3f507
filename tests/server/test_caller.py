"""A key becomes an owner; a taximeter key is looked up, cached for seconds, and good for inference only."""

import hashlib
from typing import cast

import pytest

from proxy.errors import StoreAway
from proxy.server.caller import FRESH_SECONDS, GRACE_SECONDS, Callers, presented_key
from proxy.server.replies import Refused
from proxy.store import Store

KEY = "tm-secret"
DIGEST = hashlib.sha256(KEY.encode()).hexdigest()


class KeyStore:
    """A store that knows keys, counts look-ups, and can go away."""

    def __init__(self) -> None:
        self.owners: dict[str, str] = {DIGEST: "acme"}
        self.away = False
        self.asked = 0

    async def find_key(self, digest: str) -> str | None:
        self.asked += 1
        if self.away:
            raise StoreAway("away")
        return self.owners.get(digest)


def callers(store: KeyStore) -> Callers:
    return Callers(cast("Store", store))


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({"Authorization": "Bearer sk-1"}, "sk-1"),
        ({"Authorization": "bearer  sk-1 "}, "sk-1"),
        ({"api-key": "az"}, "az"),
        ({"Authorization": "Bearer sk-1", "api-key": "tm-x"}, "tm-x"),
        ({"Authorization": "Bearer sk-1", "x-api-key": "tm-x"}, "tm-x"),
        ({"Authorization": "tm-x"}, "tm-x"),
        ({"Authorization": "Token tm-x"}, "tm-x"),
        ({"Authorization": "Bearer"}, None),
        ({"Authorization": "Basic abc"}, None),
        ({}, None),
    ],
)
def test_the_key_that_was_presented(headers: dict[str, str], key: str | None) -> None:
    assert presented_key(headers) == key


async def test_another_key_is_hashed_and_passes() -> None:
    digest = hashlib.sha256(b"sk-1").hexdigest()

    caller = await callers(KeyStore()).identify({"Authorization": "Bearer sk-1"}, "files", require_key=False, now=0.0)

    assert (caller.owner.name, caller.owner.identity) == (f"key-{digest[:8]}", f"key-{digest}")
    assert not caller.by_taximeter_key


async def test_a_taximeter_key_names_its_owner_and_is_asked_for_once_in_five_seconds() -> None:
    store = KeyStore()
    known = callers(store)
    for now in (0.0, 1.0, FRESH_SECONDS - 0.1):
        caller = await known.identify({"Authorization": f"Bearer {KEY}"}, "chat/completions", require_key=True, now=now)
        assert (caller.owner.name, caller.by_taximeter_key) == ("acme", True)
    assert store.asked == 1

    store.owners.clear()
    with pytest.raises(Refused) as refused:
        await known.identify(
            {"Authorization": f"Bearer {KEY}"}, "chat/completions", require_key=True, now=FRESH_SECONDS
        )
    assert (refused.value.status, refused.value.code) == (401, "invalid_api_key")


async def test_with_the_store_away_a_known_key_goes_on_for_five_minutes_and_an_unknown_one_does_not() -> None:
    store = KeyStore()
    known = callers(store)
    headers = {"Authorization": f"Bearer {KEY}"}
    await known.identify(headers, "chat/completions", require_key=False, now=0.0)
    store.away = True

    caller = await known.identify(headers, "chat/completions", require_key=False, now=GRACE_SECONDS - 1)
    assert caller.owner.name == "acme"
    for headers_, now in ((headers, GRACE_SECONDS + 1), ({"Authorization": "Bearer tm-other"}, 1.0)):
        with pytest.raises(Refused) as refused:
            await known.identify(headers_, "chat/completions", require_key=False, now=now)
        assert (refused.value.status, refused.value.code) == (503, "store_unavailable")


@pytest.mark.parametrize("path", ["files", "fine_tuning/jobs", "organization/usage", "chat/completions/x/delete"])
async def test_only_inference_is_open_to_taximeter_keys(path: str) -> None:
    with pytest.raises(Refused) as refused:
        await callers(KeyStore()).identify({"Authorization": f"Bearer {KEY}"}, path, require_key=False, now=0.0)
    assert refused.value.status == 403


async def test_require_key_turns_everybody_else_away() -> None:
    for headers in ({}, {"Authorization": "Bearer sk-1"}):
        with pytest.raises(Refused) as refused:
            await callers(KeyStore()).identify(headers, "chat/completions", require_key=True, now=0.0)
        assert (refused.value.status, refused.value.code) == (401, "invalid_api_key")
