"""Retention: what is folded is gone from the stream and kept in sums, once, whatever happens in between."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from proxy.budgets import Account
from proxy.errors import StoreRefused
from proxy.ledger.entry import LedgerEntry, Moved
from proxy.store import Store, keys
from proxy.store.ledger import Ledger
from proxy.store.ledger_trim import LINES_A_FOLD, trim
from proxy.store.reads import Reads
from proxy.store.verify import verify
from tests.store.cases import AT, TODAY, account, entry
from tests.store.conftest import applied
from tests.store.reading import open_reads
from tests.store.servers import Server

DAYS = timedelta(days=90)
MONTH, FOREVER = account("monthly"), account("forever", period="total")


def paid(entry_id: str, nanos: int, *accounts: Account) -> LedgerEntry:
    return entry(entry_id, nanos, moved=tuple(Moved(each.budget.name, each.key, nanos) for each in accounts))


@pytest.fixture
async def reads(server: Server) -> AsyncIterator[Reads]:
    async with open_reads(server.url) as reads:
        yield reads


def summed(raw: Any) -> dict[str, int]:
    """Of the trimmed lines of today, by quantity."""
    found: dict[str, int] = {}
    for field, value in raw.hgetall(keys.TRIMMED_SUMS + TODAY.isoformat()).items():
        quantity = field.rpartition("]")[2]
        found[quantity] = found.get(quantity, 0) + int(value)
    return found


async def test_the_oldest_of_too_many_are_folded(store: Store, reads: Reads, raw: Any) -> None:
    for number in range(1, 6):
        store.settle(paid(f"e{number}", number, MONTH, FOREVER), [MONTH, FOREVER])
    await applied(store)

    assert await trim(reads, keep=DAYS, most=2) == 3
    assert await trim(reads, keep=DAYS, most=2) == 0
    assert [json.loads(fields["e"])["id"] for _, fields in raw.xrange(keys.LEDGER)] == ["e4", "e5"]
    assert [raw.get(keys.TRIMMED_ACCOUNT + each.key) for each in (MONTH, FOREVER)] == ["6", "6"]
    assert summed(raw) == {"requests": 3, "input": 30, "output": 15, "nanos": 6}
    span = await Ledger(reads).span()
    assert (span.lines, span.trimmed_lines) == (2, 3)
    assert span.trimmed_until is not None
    assert span.first_at is not None
    assert AT - timedelta(minutes=1) < span.trimmed_until <= span.first_at


async def test_what_is_too_old_is_folded_by_the_stores_clock(store: Store, reads: Reads, raw: Any) -> None:
    now = int(raw.time()[0]) * 1000
    for number, age in enumerate((100, 91, 89)):
        line = paid(f"e{number}", 7)
        raw.xadd(keys.LEDGER, {"e": json.dumps(line_of(line))}, id=f"{now - age * 86_400_000}-0")

    assert await trim(reads, keep=DAYS, most=10) == 2
    assert raw.xlen(keys.LEDGER) == 1


async def test_a_checkpoint_lives_as_long_as_its_account(store: Store, reads: Reads, raw: Any) -> None:
    store.settle(paid("e1", 5, MONTH, FOREVER), [MONTH, FOREVER])
    await applied(store)
    await trim(reads, keep=DAYS, most=0)

    assert raw.expiretime(keys.TRIMMED_ACCOUNT + MONTH.key) == raw.expiretime(keys.committed(MONTH.key)) > 0
    assert raw.ttl(keys.TRIMMED_ACCOUNT + FOREVER.key) == -1


async def test_an_account_that_has_expired_leaves_no_checkpoint(store: Store, reads: Reads, raw: Any) -> None:
    past = account("past", period="day", at=datetime.now(UTC) - timedelta(days=95))
    store.settle(paid("e1", 5, past), [past])
    await applied(store)

    assert await trim(reads, keep=DAYS, most=0) == 1
    assert not raw.exists(keys.TRIMMED_ACCOUNT + past.key)
    assert (await verify(reads)).difference is None


async def test_a_correction_across_the_cut_stays_whole(store: Store, reads: Reads, raw: Any) -> None:
    """The entry is folded, its reversal and replacement are not; then one more; then all."""
    first, second = paid("e1", 100, MONTH), paid("e1", 70, MONTH)
    store.settle(first, [MONTH])
    store.settle(first.reversed(), [MONTH])
    store.settle(corrected(second), [MONTH])
    await applied(store)
    for most in (3, 2, 1, 0):
        await trim(reads, keep=DAYS, most=most)
        assert raw.xlen(keys.LEDGER) == most
        assert (await verify(reads)).difference is None
    assert raw.get(keys.TRIMMED_ACCOUNT + MONTH.key) == "70"
    assert {kind: number for kind, number in summed(raw).items() if number} == {
        "requests": 1,
        "input": 10,
        "output": 5,
        "nanos": 70,
    }


async def test_amounts_beyond_two_to_the_53_are_folded_exactly(store: Store, reads: Reads, raw: Any) -> None:
    nanos = 2**53 + 1  # no double is this number
    store.settle(paid("e1", nanos, FOREVER), [FOREVER])
    store.settle(paid("e2", nanos, FOREVER), [FOREVER])
    await applied(store)
    await trim(reads, keep=DAYS, most=0)

    assert raw.get(keys.TRIMMED_ACCOUNT + FOREVER.key) == str(2 * nanos)
    assert (await verify(reads)).difference is None


async def test_two_that_trim_at_once_fold_each_line_once(store: Store, reads: Reads, server: Server, raw: Any) -> None:
    for number in range(5 * LINES_A_FOLD):
        store.settle(paid(f"e{number}", 1, FOREVER), [FOREVER])
    await applied(store)
    async with open_reads(server.url) as other:
        done = await asyncio.gather(*(trim(each, keep=DAYS, most=10) for each in (reads, other)))

    assert sum(done) == 5 * LINES_A_FOLD - 10
    assert raw.get(keys.TRIMMED_ACCOUNT + FOREVER.key) == str(5 * LINES_A_FOLD - 10)
    assert raw.hget(keys.TRIMMED, "lines") == str(5 * LINES_A_FOLD - 10)
    assert (await verify(reads)).difference is None


async def test_nothing_is_trimmed_while_somebody_reads_all(store: Store, reads: Reads, raw: Any) -> None:
    store.settle(paid("e1", 5, FOREVER), [FOREVER])
    await applied(store)
    raw.set(keys.READING, "somebody")

    assert await trim(reads, keep=DAYS, most=0) == 0
    await verify(reads)
    assert await trim(reads, keep=DAYS, most=0) == 1
    assert not raw.exists(keys.READING)


async def test_a_verification_that_is_overtaken_starts_again(
    store: Store, reads: Reads, server: Server, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sign is gone too early, as after a failover: it sees that lines went, and does not call it a difference."""
    for number in range(20):
        store.settle(paid(f"e{number}", 5, FOREVER), [FOREVER])
    await applied(store)
    forwards = Ledger.forwards
    overtaken: list[int] = []

    async def slow(self: Ledger, *arguments: Any, **options: Any) -> AsyncIterator[Any]:
        async for page in forwards(self, *arguments, **options):
            yield page
        if not overtaken:
            raw.delete(keys.READING)
            async with open_reads(server.url) as other:
                overtaken.append(await trim(other, keep=DAYS, most=15))

    monkeypatch.setattr(Ledger, "forwards", slow)
    found = await verify(reads)

    assert overtaken == [5]
    assert (found.difference, found.lines, found.trimmed_lines) == (None, 15, 5)


async def test_a_checkpoint_that_is_no_number_stops_before_anything_is_written(
    store: Store, reads: Reads, raw: Any
) -> None:
    store.settle(paid("e1", 5, MONTH, FOREVER), [MONTH, FOREVER])
    await applied(store)
    raw.set(keys.TRIMMED_ACCOUNT + FOREVER.key, "many")

    with pytest.raises(StoreRefused, match="is not a number"):
        await trim(reads, keep=DAYS, most=0)
    assert raw.xlen(keys.LEDGER) == 1
    assert not raw.exists(keys.TRIMMED, keys.TRIMMED_ACCOUNT + MONTH.key, keys.TRIMMED_SUMS + TODAY.isoformat())


async def test_an_empty_ledger_has_nothing_to_trim(reads: Reads) -> None:
    assert await trim(reads, keep=DAYS, most=0) == 0


def corrected(line: LedgerEntry) -> LedgerEntry:
    return LedgerEntry(**{**{name: getattr(line, name) for name in line.__struct_fields__}, "line": "correction"})


def line_of(line: LedgerEntry) -> dict[str, Any]:
    return {name: getattr(line, name) for name in line.__struct_fields__}
