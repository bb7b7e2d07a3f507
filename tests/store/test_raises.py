"""Raised limits in a real store: written once with their audit record, replaced, cleared away when they have ended."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from proxy.budgets import Raise, Raises
from proxy.errors import StoreRefused
from proxy.store import Store, raises
from proxy.store.reads import Reads

AT = datetime(2026, 11, 22, 22, tzinfo=UTC)


def raised(limit: int = 800, *, owner: str | None = None, hours: int = 8, budget: str = "acme") -> Raise:
    return Raise(
        budget=budget,
        owner=owner,
        limit=limit * 10**9,
        until=AT + timedelta(hours=hours),
        who="ann@host",
        why="launch night",
        at=AT,
    )


async def test_a_raise_is_read_as_it_was_written_and_stands_in_the_audit(store: Store, raw: redis.Redis) -> None:
    before = await store.revision()
    await store.raise_limit(raised(), before=500 * 10**9, now=AT)

    assert await store.read_raises() == [raised()]
    assert await store.revision() != before
    found: Any = raw.xrange("{taximeter}:audit")
    [(_, fields)] = found
    assert json.loads(fields["e"]) == {
        "at": "2026-11-22T22:00:00Z",
        "who": "ann@host",
        "action": "raise",
        "budget": "acme",
        "owner": None,
        "from_usd": "500",
        "to_usd": "800",
        "until": "2026-11-23T06:00:00Z",
        "why": "launch night",
    }


async def test_a_later_raise_replaces_the_earlier_one_and_another_owners_stays(store: Store) -> None:
    for each in (raised(800), raised(900), raised(700, owner="beta")):
        await store.raise_limit(each, before=1, now=AT)

    found = Raises(await store.read_raises())
    assert found == Raises([raised(900), raised(700, owner="beta")])


async def test_what_has_ended_is_cleared_away_by_the_next_one(store: Store) -> None:
    await store.raise_limit(raised(hours=1), before=1, now=AT)
    later = AT + timedelta(hours=2)
    await store.raise_limit(raised(budget="other"), before=1, now=later)

    assert await store.read_raises() == [raised(budget="other")]


async def test_asked_twice_it_is_written_down_once(store: Store, raw: redis.Redis) -> None:
    for _ in range(2):
        await store.raise_limit(raised(), before=1, now=AT)

    assert raw.xlen("{taximeter}:audit") == 1


async def test_what_nobody_of_us_wrote_is_said(store: Store, raw: redis.Redis) -> None:
    raw.hset("{taximeter}:raised", "x", "{}")

    with pytest.raises(StoreRefused, match="raised limits are not what taximeter wrote"):
        await raises.read(_reads(store))


def _reads(store: Store) -> Reads:
    return store._reads
