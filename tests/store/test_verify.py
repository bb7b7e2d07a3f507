"""Verify: what follows from the ledger passes, and any one number that is changed is told."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from proxy.budgets import Account
from proxy.ledger.entry import LedgerEntry, Moved
from proxy.store import Store, keys
from proxy.store.ledger_trim import trim
from proxy.store.reads import Reads
from proxy.store.verify import Verdict, held_by, may_have_expired, verify
from tests.store.cases import AT, account, entry, opened, parked_request
from tests.store.conftest import applied
from tests.store.reading import open_reads
from tests.store.servers import Server

MONTH = account("monthly")
FOREVER = account("forever", period="total", owner="acme")


def moved(line: LedgerEntry, *accounts: Account) -> LedgerEntry:
    nanos = line.cost_nanos or 0
    return msgspec.structs.replace(
        line, moved=tuple(Moved(each.budget.name, each.key, nanos) for each in (accounts or (MONTH, FOREVER)))
    )


async def some_history(store: Store) -> None:
    """Priced, unpriced and failed entries on two accounts, a hold under way, and a request in the background."""
    for number in range(5):
        store.settle(moved(entry(f"e{number}", 100 + number)), [MONTH, FOREVER])
    store.settle(moved(entry("unpriced", None)), [MONTH, FOREVER])
    store.settle(moved(entry("failed", 0, status="failed"), MONTH), [])
    store.hold_later(opened("h1", 70, MONTH), [MONTH])
    store.hold_later(opened("h2", 7, MONTH, FOREVER), [MONTH, FOREVER])
    parked = msgspec.structs.replace(parked_request("h2"), client_request_id=None)
    store.park("resp 1", parked, opened("h2", 7, MONTH, FOREVER))
    await applied(store)


@pytest.fixture
async def reads(server: Server) -> AsyncIterator[Reads]:
    async with open_reads(server.url) as reads:
        yield reads


async def test_nothing_follows_from_nothing(reads: Reads) -> None:
    assert await verify(reads) == Verdict(0, 0, 0, 0, 0, 0, 0, None)


async def test_a_history_adds_up(store: Store, reads: Reads) -> None:
    await some_history(store)

    assert await verify(reads) == Verdict(
        lines=7, corrections=0, trimmed_lines=0, accounts=2, skipped=0, holds=2, days=1, difference=None
    )


async def test_a_trimmed_history_adds_up(store: Store, reads: Reads) -> None:
    await some_history(store)

    assert await trim(reads, keep=timedelta(days=1), most=2) == 5
    found = await verify(reads)
    assert (found.difference, found.lines, found.trimmed_lines) == (None, 2, 5)


async def test_what_a_budget_began_with_counts(store: Store, reads: Reads, raw: Any) -> None:
    await some_history(store)
    raw.incrby(keys.committed(MONTH.key), 50)
    raw.hset(keys.OPENING, MONTH.key, 50)

    assert (await verify(reads)).difference is None


async def test_every_number_that_is_changed_is_told(store: Store, reads: Reads, raw: Any) -> None:
    """Committed, held, each field of the sums, each checkpoint, what was opened with, each hold."""
    await some_history(store)
    await trim(reads, keep=timedelta(days=1), most=4)
    raw.incrby(keys.committed(MONTH.key), 5)
    raw.hset(keys.OPENING, MONTH.key, 5)
    await asyncio.sleep(0)
    assert (await verify(reads)).difference is None

    day = AT.date().isoformat()
    changed = 0
    for key in (MONTH.key, FOREVER.key):
        for name in (keys.committed(key), keys.held(key), keys.TRIMMED_ACCOUNT + key):
            for by in (1, -1):
                raw.incrby(name, by)
                found = await verify(reads)
                assert found.difference is not None, name
                assert found.difference.where == key
                raw.decrby(name, by)
                changed += 1
    for name in (keys.sums(AT.date()), keys.TRIMMED_SUMS + day):
        for field in raw.hkeys(name):
            raw.hincrby(name, field, 1)
            found = await verify(reads)
            assert found.difference is not None, (name, field)
            assert found.difference.where == f"{day} {field}"
            raw.hincrby(name, field, -1)
            changed += 1
    raw.hincrby(keys.OPENING, MONTH.key, -1)
    assert (await verify(reads)).difference is not None
    raw.hincrby(keys.OPENING, MONTH.key, 1)
    record = raw.hget(keys.holds("w1"), "h1")
    raw.hset(keys.holds("w1"), "h1", record.replace("70 ", "71 ", 1))
    assert (await verify(reads)).difference is not None
    raw.hset(keys.holds("w1"), "h1", record)
    [member] = raw.zrange(keys.PARKED, 0, -1)
    raw.zrem(keys.PARKED, member)
    assert (await verify(reads)).difference is not None
    raw.zadd(keys.PARKED, {member: 1})

    assert changed > 20
    assert (await verify(reads)).difference is None


@pytest.mark.parametrize(
    "name",
    [
        keys.committed(MONTH.key),
        keys.held(MONTH.key),
        keys.sums(AT.date()),
        keys.TRIMMED_ACCOUNT + MONTH.key,
        keys.TRIMMED_SUMS + AT.date().isoformat(),
        keys.holds("w1"),
        keys.LEDGER,
    ],
)
async def test_a_key_that_is_gone_is_told(store: Store, reads: Reads, raw: Any, name: str) -> None:
    await some_history(store)
    await trim(reads, keep=timedelta(days=1), most=4)

    raw.delete(name)

    found = (await verify(reads)).difference
    assert found is not None
    assert found.expected != found.found


async def test_an_account_that_only_a_hold_names_is_told(store: Store, reads: Reads, raw: Any) -> None:
    store.hold_later(opened("h1", 70, MONTH), [MONTH])
    await applied(store)
    raw.delete(keys.committed(MONTH.key), keys.held(MONTH.key))

    found = (await verify(reads)).difference
    assert found is not None
    assert (found.what, found.where, found.found, found.reason) == ("spent", MONTH.key, None, "its key is gone")


async def test_a_line_that_is_gone_is_told(store: Store, reads: Reads, raw: Any) -> None:
    await some_history(store)
    for place, _ in raw.xrange(keys.LEDGER):
        kept = raw.dump(keys.LEDGER)
        raw.xdel(keys.LEDGER, place)
        assert (await verify(reads)).difference is not None, place
        raw.restore(keys.LEDGER, 0, kept, replace=True)
    assert (await verify(reads)).difference is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (entry("twice", 100), "it has an earlier twin"),
        (entry("wrong", 100, moved=(Moved("b", MONTH.key, 99),)), f"it costs 100 nanos and moved 99 in {MONTH.key}"),
    ],
)
async def test_a_line_that_must_not_be_is_named(store: Store, reads: Reads, line: LedgerEntry, reason: str) -> None:
    store.settle(entry("twice", 100), [])
    store.settle(line, [])
    await applied(store)

    found = (await verify(reads)).difference
    assert found is not None
    assert (found.what, found.reason) == ("line", reason)
    assert found.where.endswith(f" {line.id}")


async def test_what_is_no_line_is_told(reads: Reads, raw: Any) -> None:
    place = raw.xadd(keys.LEDGER, {"e": json.dumps({"id": "x"})})

    found = (await verify(reads)).difference
    assert found is not None
    assert (found.what, found.where) == ("line", place)
    assert "cannot be read" in str(found.reason)


async def test_what_is_no_number_is_told(store: Store, reads: Reads, raw: Any) -> None:
    await some_history(store)
    raw.set(keys.committed(MONTH.key), "many")

    found = (await verify(reads)).difference
    assert found is not None
    assert (found.what, found.where, found.reason) == ("number", MONTH.key, "b'many' is no number")


async def test_accounts_of_periods_that_ended_long_ago_are_skipped(store: Store, reads: Reads) -> None:
    past = account("past", period="day", at=datetime.now(UTC) - timedelta(days=95))
    store.settle(moved(entry("old", 100), past), [past])  # its keys expire at once
    await applied(store)

    found = await verify(reads)
    assert (found.difference, found.accounts, found.skipped) == (None, 0, 1)


async def test_it_passes_while_the_store_goes_on_working(store: Store, reads: Reads, server: Server) -> None:
    """Holds come and go, entries are written, another trims: no moment looks like a difference."""
    stopping = False

    async def work() -> None:
        number = 0
        while not stopping:
            number += 1
            account = (MONTH, FOREVER)[number % 2]
            store.hold_later(opened(f"w{number}", 90, account), [account])
            if number % 3:
                store.settle(moved(entry(f"w{number}", 80), account), [account])
            elif number % 2:
                store.release(f"w{number}")
            await asyncio.sleep(0)

    async def trim_now_and_then() -> None:
        async with open_reads(server.url) as other:
            while not stopping:
                await trim(other, keep=timedelta(days=1), most=100)
                await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as group:
        group.create_task(work())
        group.create_task(trim_now_and_then())
        await asyncio.sleep(0.3)
        verdicts = [await verify(reads) for _ in range(8)]
        stopping = True
    assert [verdict.difference for verdict in verdicts] == [None] * 8
    assert verdicts[-1].lines > verdicts[0].lines
    assert verdicts[-1].holds > 0


def test_the_lines_of_a_hold_are_read_and_nothing_behind_them() -> None:
    record = b'5 a/total\n7 b/2026-11\n\n{"note": "9 a/total"}'

    assert held_by([record, b"1 a/total\n\n{}", b"\n\n{}"]) == {"a/total": 6, "b/2026-11": 7}


@pytest.mark.parametrize(
    ("key", "last_moment"),
    [
        ("b/2026-11", datetime(2026, 12, 1, tzinfo=UTC)),
        ("b/2026-11-22/acme", datetime(2026, 11, 23, tzinfo=UTC)),
        ("b/2026-W47", datetime(2026, 11, 23, tzinfo=UTC)),
        ("b/2026-W53", datetime(2027, 1, 4, tzinfo=UTC)),
    ],
)
def test_an_account_may_have_expired_90_days_after_its_period(key: str, last_moment: datetime) -> None:
    kept = timedelta(seconds=keys.KEPT_AFTER_PERIOD_SECONDS)

    assert not may_have_expired(key, last_moment + kept - timedelta(hours=15, seconds=1))
    assert may_have_expired(key, last_moment + kept - timedelta(hours=14))


@pytest.mark.parametrize("key", ["b/total", "b/total/acme", "b", "", "b/soon", "b/2026-W99"])
def test_others_never_expire(key: str) -> None:
    assert not may_have_expired(key, datetime(2999, 1, 1, tzinfo=UTC))
