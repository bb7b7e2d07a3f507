"""A key becomes an owner; a taximeter key is looked up, remembered for seconds, and good for what it was made for."""

import asyncio
from datetime import UTC, datetime
from typing import cast

import pytest

from proxy.budgets import Owner
from proxy.errors import StoreAway
from proxy.server.caller import FRESH_SECONDS, GRACE_SECONDS, Caller, Callers, presented_key
from proxy.server.replies import Refused
from proxy.store import CallerKey, Store
from proxy.store.caller_keys import digest_of

KEY = "tm-secret"
DIGEST = digest_of(KEY)
CREATED = datetime(2026, 11, 1, tzinfo=UTC)
EXPIRES = datetime(2026, 12, 1, tzinfo=UTC)


def key(digest: str = DIGEST, *, expires: datetime | None = None, models: tuple[str, ...] = ()) -> CallerKey:
    return CallerKey(digest=digest, owner="acme", created=CREATED, expires=expires, models=models)


class KeyStore:
    """A store that knows keys, counts look-ups, and can go away."""

    def __init__(self, *keys: CallerKey) -> None:
        self.keys = {each.digest: each for each in keys or (key(),)}
        self.away = False
        self.asked = 0

    async def find_key(self, digest: str) -> CallerKey | None:
        self.asked += 1
        if self.away:
            raise StoreAway("away")
        return self.keys.get(digest)


def callers(store: KeyStore, wall: datetime = CREATED) -> Callers:
    return Callers(cast("Store", store), clock=wall.timestamp)


async def identify(known: Callers, now: float, *, path: str = "chat/completions", presented: str = KEY) -> Caller:
    return await known.identify({"Authorization": f"Bearer {presented}"}, path, require_key=False, now=now)


async def refusal(known: Callers, now: float, *, path: str = "chat/completions", presented: str = KEY) -> Refused:
    with pytest.raises(Refused) as refused:
        await identify(known, now, path=path, presented=presented)
    return refused.value


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
    digest = digest_of("sk-1")

    caller = await identify(callers(KeyStore()), 0.0, path="files", presented="sk-1")

    assert (caller.owner.name, caller.owner.identity) == (f"key-{digest[:8]}", f"key-{digest}")
    assert not caller.by_taximeter_key


async def test_a_taximeter_key_names_its_owner_and_is_asked_for_once_in_five_seconds() -> None:
    store = KeyStore()
    known = callers(store)
    for now in (0.0, 1.0, FRESH_SECONDS - 0.1):
        caller = await identify(known, now)
        assert (caller.owner.name, caller.by_taximeter_key) == ("acme", True)
    assert store.asked == 1

    store.keys.clear()
    refused = await refusal(known, FRESH_SECONDS)
    assert (refused.status, refused.code) == (401, "invalid_api_key")


async def test_while_nothing_changes_in_the_store_a_key_is_asked_for_once() -> None:
    store = KeyStore()
    known = callers(store)
    known.looked(b"1", 0.0)
    for second in range(100):
        await identify(known, float(second))
        known.looked(b"1", float(second))
    assert store.asked == 1


async def test_a_change_in_the_store_counts_at_once() -> None:
    store = KeyStore()
    known = callers(store)
    known.looked(b"1", 0.0)
    await identify(known, 0.1)
    store.keys.clear()
    known.looked(b"2", 1.0)

    assert (await refusal(known, 1.1)).code == "invalid_api_key"
    store.keys[DIGEST] = key()  # and a key that was unknown when it was made later
    known.looked(b"3", 2.0)
    assert (await identify(known, 2.1)).owner.name == "acme"


async def test_an_answer_from_before_a_change_does_not_count_after_it() -> None:
    store = KeyStore()
    known = callers(store)
    known.looked(b"1", 0.0)

    class Slow(KeyStore):
        async def find_key(self, digest: str) -> CallerKey | None:
            found = await super().find_key(digest)
            self.keys.clear()  # revoked while the answer was on its way, and a look has seen that
            known.looked(b"2", 0.5)
            return found

    known._store = cast("Store", Slow())
    assert (await identify(known, 0.1)).owner.name == "acme"
    known._store = cast("Store", KeyStore(key("0" * 64)))
    assert (await refusal(known, 0.6)).code == "invalid_api_key"


async def test_with_the_store_away_a_known_key_goes_on_for_five_minutes_and_an_unknown_one_does_not() -> None:
    store = KeyStore()
    known = callers(store)
    await identify(known, 0.0)
    store.away = True

    assert (await identify(known, GRACE_SECONDS - 1)).owner.name == "acme"
    for presented, now in ((KEY, GRACE_SECONDS + 1), ("tm-other", 1.0)):
        refused = await refusal(known, now, presented=presented)
        assert (refused.status, refused.code) == (503, "store_unavailable")


async def test_the_five_minutes_begin_when_the_store_goes_away() -> None:
    store = KeyStore()
    known = callers(store)
    known.looked(b"1", 0.0)
    await identify(known, 0.1)
    known.looked(b"1", 1000.0)
    store.away = True

    assert (await identify(known, 1000.0 + GRACE_SECONDS - 1)).owner.name == "acme"
    assert (await refusal(known, 1000.0 + GRACE_SECONDS + 1)).code == "store_unavailable"


async def test_an_expired_key_stops_at_its_moment_also_while_the_store_is_away() -> None:
    wall = EXPIRES.timestamp() - 1
    store = KeyStore(key(expires=EXPIRES))
    known = Callers(cast("Store", store), clock=lambda: wall)
    assert (await identify(known, 0.0)).owner.name == "acme"
    store.away = True
    wall = EXPIRES.timestamp()

    refused = await refusal(known, 1.0)
    assert (refused.status, refused.code) == (401, "invalid_api_key")
    assert refused.message == "this taximeter key expired at 2026-12-01T00:00:00Z"


async def test_two_keys_whose_digests_begin_alike_are_not_taken_for_each_other() -> None:
    store = KeyStore(key(DIGEST[:12] + "0" * 52))
    known = callers(store)
    await known._find(DIGEST[:12] + "0" * 52, 0.0)
    assert (await refusal(known, 0.1)).code == "invalid_api_key"


@pytest.mark.parametrize(
    ("globs", "asked", "passes"),
    [
        ((), "anything", True),
        ((), None, True),
        (("gpt-4o*",), "gpt-4o-mini", True),
        (("gpt-4o*",), "gpt-4.1", False),
        (("gpt-4o*", "gpt-4.1"), "gpt-4.1", True),
        (("ft:*",), "my-deployment", True),
        (("my-*",), "my-deployment", True),
        (("gpt-4o*",), None, False),
        (("*",), None, False),
    ],
)
def test_a_key_limited_to_models(globs: tuple[str, ...], asked: str | None, passes: bool) -> None:
    caller = Caller(Owner("acme", "acme"), by_taximeter_key=True, models=globs)
    if passes:
        caller.check_model(asked, {"my-deployment": "ft:gpt-4o-mini-2024-07-18:acme::abc123"})
        return
    with pytest.raises(Refused) as refused:
        caller.check_model(asked, {"my-deployment": "ft:gpt-4o-mini-2024-07-18:acme::abc123"})
    assert (refused.value.status, refused.value.code) == (403, "model_not_allowed")
    assert globs[0] in refused.value.message


@pytest.mark.parametrize("path", ["files", "fine_tuning/jobs", "organization/usage", "chat/completions/x/delete"])
async def test_only_inference_is_open_to_taximeter_keys(path: str) -> None:
    assert (await refusal(callers(KeyStore()), 0.0, path=path)).status == 403


async def test_require_key_turns_everybody_else_away() -> None:
    for headers in ({}, {"Authorization": "Bearer sk-1"}):
        with pytest.raises(Refused) as refused:
            await callers(KeyStore()).identify(headers, "chat/completions", require_key=True, now=0.0)
        assert (refused.value.status, refused.value.code) == (401, "invalid_api_key")


class SlowKeyStore(KeyStore):
    """Answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = asyncio.Event()

    async def find_key(self, digest: str) -> CallerKey | None:
        await self.answers.wait()
        return await super().find_key(digest)


async def test_who_comes_with_the_same_key_meanwhile_shares_the_look_up() -> None:
    store = SlowKeyStore()
    known = callers(store)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(identify(known, 0.0)) for _ in range(50)]
        await asyncio.sleep(0)
        store.answers.set()

    assert {task.result().owner.name for task in tasks} == {"acme"}
    assert store.asked == 1


async def test_who_shares_a_look_up_shares_its_failure() -> None:
    store = SlowKeyStore()
    store.away = True
    known = callers(store)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(refusal(known, 0.0)) for _ in range(50)]
        await asyncio.sleep(0)
        store.answers.set()

    assert {task.result().status for task in tasks} == {503}
    assert store.asked == 1


async def test_who_leaves_hands_the_look_up_on() -> None:
    store = SlowKeyStore()
    known = callers(store)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(identify(known, 0.0))
        second = group.create_task(identify(known, 0.0))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        store.answers.set()

    assert second.result().owner.name == "acme"
    assert not known._asking
