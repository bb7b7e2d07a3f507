"""Corrections: written whole or not at all, once, and in agreement with whoever else corrects."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from proxy.budgets import Account
from proxy.errors import StoreAway, StoreRefused, UsageError
from proxy.ledger.entry import LedgerEntry, Moved
from proxy.store import Store, keys
from proxy.store.ledger import Ledger
from proxy.store.ledger_reprice import CORRECTIONS_A_BATCH, Repricer, current_entries
from proxy.store.ledger_trim import trim
from proxy.store.operations import Hold, Presume, PresumeParked, Reverse
from proxy.store.reads import Reads
from proxy.store.verify import verify
from tests.store.calling import Caller, charge, ledger, park, standing, sums
from tests.store.cases import AT, account, entry, opened
from tests.store.conftest import applied
from tests.store.reading import open_reads
from tests.store.servers import Server

MONTH, FOREVER = account("monthly"), account("forever", period="total", owner="acme")
LONG_AGO = AT - timedelta(days=400)


def paid(entry_id: str, nanos: int | None, *accounts: Account, **changes: Any) -> LedgerEntry:
    moved = tuple(Moved(each.budget.name, each.key, nanos or 0) for each in accounts)
    return entry(entry_id, nanos, moved=moved, **changes)


def at_price(line: LedgerEntry, nanos: int) -> LedgerEntry:
    """The same on another card."""
    return msgspec.structs.replace(
        line,
        status="reported" if line.status == "unpriced" else line.status,
        card="openai/other",
        provenance="override",
        cost_nanos=nanos,
        moved=tuple(Moved(each.budget, each.period, nanos) for each in line.moved),
    )


@pytest.fixture
async def reads(server: Server) -> AsyncIterator[Reads]:
    async with open_reads(server.url) as reads:
        yield reads


@pytest.fixture
async def repricer(reads: Reads) -> Repricer:
    repricer = Repricer(reads)
    await repricer.begin({"action": "reprice"})
    return repricer


async def in_force(reads: Reads, since: datetime = LONG_AGO, until: datetime | None = None) -> list[LedgerEntry]:
    pages = current_entries(Ledger(reads, lines_a_call=2), since, until)
    return [entry async for page in pages for entry in page]


async def test_a_correction_moves_accounts_sums_and_ledger(
    store: Store, reads: Reads, repricer: Repricer, raw: Any
) -> None:
    store.settle(paid("e1", 100, MONTH, FOREVER), [MONTH, FOREVER])
    store.settle(paid("e2", None, MONTH), [MONTH])
    await applied(store)
    second, first = await in_force(reads)

    assert await repricer.apply([(first, at_price(first, 30)), (second, at_price(second, 7))]) == [True, True]
    assert [standing(raw, each) for each in (MONTH, FOREVER)] == [(37, 0), (30, 0)]
    assert sums(raw) == {"requests": 2, "input": 20, "output": 10, "nanos": 37}
    assert [(line["id"], line["line"], line["requests"], line["cost_nanos"]) for line in ledger(raw)] == [
        ("e1", "entry", 1, 100),
        ("e2", "entry", 1, None),
        ("e1", "correction", -1, -100),
        ("e1", "correction", 1, 30),
        ("e2", "correction", -1, None),
        ("e2", "correction", 1, 7),
    ]
    assert [line.cost_nanos for line in await in_force(reads)] == [7, 30]
    assert (await verify(reads)).difference is None


async def test_a_batch_that_comes_again_counts_once(store: Store, reads: Reads, repricer: Repricer, raw: Any) -> None:
    """Its answer was lost: the same number is answered as before."""
    store.settle(paid("e1", 100, MONTH), [MONTH])
    await applied(store)
    [line] = await in_force(reads)
    for _ in range(3):
        repricer._number = 0
        assert await repricer.apply([(line, at_price(line, 30))]) == [True]

    assert standing(raw, MONTH) == (30, 0)
    assert len(ledger(raw)) == 3


async def test_an_answer_that_is_lost_on_the_way_is_asked_for_again(
    store: Store, reads: Reads, repricer: Repricer, raw: Any
) -> None:
    """The connection breaks when the server has done its work and before it is heard."""
    store.settle(paid("e1", 100, MONTH), [MONTH])
    await applied(store)
    [line] = await in_force(reads)
    wire = reads._wire
    assert wire is not None
    heard = wire.call

    async def lost(*arguments: Any) -> Any:
        await heard(*arguments)
        raise StoreAway("cut")

    wire.call = lost  # type: ignore[method-assign]
    assert await repricer.apply([(line, at_price(line, 30))]) == [True]
    assert (standing(raw, MONTH), len(ledger(raw))) == ((30, 0), 3)


async def test_many_corrections_go_in_batches(store: Store, reads: Reads, repricer: Repricer, raw: Any) -> None:
    many = 2 * CORRECTIONS_A_BATCH + 1
    for number in range(many):
        store.settle(paid(f"e{number}", 10, MONTH), [MONTH])
    await applied(store)
    lines = await in_force(reads)

    assert await repricer.apply([(line, at_price(line, 3)) for line in lines]) == [True] * many
    assert standing(raw, MONTH) == (3 * many, 0)
    assert raw.hget(keys.REPRICE, "number") == "3"
    assert (await verify(reads)).difference is None


async def test_an_account_that_has_expired_stays_away(store: Store, reads: Reads, repricer: Repricer, raw: Any) -> None:
    past = account("past", period="day", at=datetime.now(UTC) - timedelta(days=95))
    store.settle(paid("e1", 100, past, FOREVER), [past, FOREVER])
    await applied(store)
    [line] = await in_force(reads)

    assert await repricer.apply([(line, at_price(line, 30))]) == [True]
    assert not raw.exists(keys.committed(past.key), keys.held(past.key))
    assert standing(raw, FOREVER) == (30, 0)
    assert (await verify(reads)).difference is None


async def test_nothing_of_a_batch_is_written_where_a_number_is_none(
    store: Store, reads: Reads, repricer: Repricer, raw: Any
) -> None:
    store.settle(paid("e1", 100, MONTH), [MONTH])
    store.settle(paid("e2", 100, FOREVER), [FOREVER])
    await applied(store)
    lines = await in_force(reads)
    raw.set(keys.committed(MONTH.key), "many")

    with pytest.raises(StoreRefused, match="is no number"):
        await repricer.apply([(line, at_price(line, 30)) for line in lines])
    assert (standing(raw, FOREVER), len(ledger(raw))) == ((100, 0), 2)


async def test_one_at_a_time(reads: Reads, repricer: Repricer, server: Server, raw: Any) -> None:
    async with open_reads(server.url) as elsewhere:
        other = Repricer(elsewhere)
        with pytest.raises(UsageError, match="somebody else re-prices this ledger now"):
            await other.begin({"action": "reprice"})
        assert 0 < raw.ttl(keys.REPRICE) <= 60
        raw.delete(keys.REPRICE)  # as if it had been away for a minute
        await other.begin({"action": "reprice"})
        with pytest.raises(StoreAway, match="SUPERSEDED"):
            await repricer.apply([(entry("e1", 1), entry("e1", 2))])
        await repricer.end({"action": "reprice done"})  # changes nothing: it is not its turn any more
        await other.end({"action": "reprice done"})
    assert not raw.exists(keys.REPRICE)
    assert [line["action"] for _, line in await Ledger(reads).audit()] == ["reprice", "reprice", "reprice done"]


async def test_it_stays_while_there_is_nothing_to_write(repricer: Repricer, raw: Any) -> None:
    raw.expire(keys.REPRICE, 5)
    await repricer.stay()
    assert raw.ttl(keys.REPRICE) <= 5  # it was heard of a moment ago
    repricer._seen_at -= 11
    await repricer.stay()
    assert raw.ttl(keys.REPRICE) > 50


async def test_a_cost_beyond_any_request_is_refused(reads: Reads, repricer: Repricer) -> None:
    with pytest.raises(UsageError, match="more than any request can"):
        await repricer.apply([(entry("e1", 1), entry("e1", 10**16 + 1))])


async def test_what_is_in_force(store: Store, reads: Reads) -> None:
    """The last line of an id, unless that takes back; by the time at which the request began."""
    corrected = paid("e2", 50)
    for line in (paid("e1", 10), corrected, corrected.reversed(), paid("e3", 30)):
        store.settle(line, [])
    store.settle(msgspec.structs.replace(paid("e2", 60), line="correction"), [])
    store.settle(paid("old", 5, at="2020-01-01T00:00:00.000Z"), [])
    store.settle(paid("e3", 30).reversed(), [])
    await applied(store)

    assert [(line.id, line.cost_nanos) for line in await in_force(reads)] == [("e2", 60), ("e1", 10)]
    assert await in_force(reads, since=datetime.now(UTC) + timedelta(minutes=5)) == []
    assert [line.id for line in await in_force(reads, datetime(2019, 1, 1, tzinfo=UTC), AT - timedelta(days=1))] == [
        "old"
    ]


async def test_an_entry_whose_first_line_was_trimmed_is_still_corrected(
    store: Store, reads: Reads, repricer: Repricer, raw: Any
) -> None:
    store.settle(paid("e1", 100, MONTH), [MONTH])
    await applied(store)
    [line] = await in_force(reads)
    await repricer.apply([(line, at_price(line, 30))])
    await trim(reads, keep=timedelta(days=90), most=2)
    [line] = await in_force(reads)
    await repricer.apply([(line, at_price(line, 20))])

    assert [line.cost_nanos for line in await in_force(reads)] == [20]
    assert standing(raw, MONTH) == (20, 0)
    assert (await verify(reads)).difference is None


@pytest.mark.parametrize("told", ["writer", "never sent"])
async def test_what_was_presumed_and_repriced_may_still_be_told(
    reads: Reads, repricer: Repricer, raw: Any, told: str
) -> None:
    """The writer that comes back takes back what is in force now, not what was presumed first."""
    caller = Caller(raw)
    request = opened("e1", 40, MONTH)
    raw.sadd(keys.WRITERS, "w")
    assert caller.call(Hold(request, [MONTH]), Presume(request, "host_lost", "w")) == [0, 0]
    for nanos in (55, 66):
        [line] = await in_force(reads)
        assert await repricer.apply([(line, at_price(line, nanos))]) == [True]
        assert standing(raw, MONTH) == (nanos, 0)
    finished = charge(1, "e1", 5, [MONTH]) if told == "writer" else Reverse("e1")
    assert caller.call(finished) == [0]

    if told == "writer":
        assert (standing(raw, MONTH), sums(raw)) == ((5, 0), {"requests": 1, "input": 10, "output": 5, "nanos": 5})
    else:
        assert (standing(raw, MONTH), sums(raw)) == ((0, 0), {})
    assert sum(line["requests"] for line in ledger(raw)) == (told == "writer")


@pytest.mark.parametrize("told", ["writer", "never sent"])
async def test_what_was_told_meanwhile_is_left(reads: Reads, repricer: Repricer, raw: Any, told: str) -> None:
    """Between reading and writing the writer came back: the correction would be one of what is not in force."""
    caller = Caller(raw)
    request = opened("e1", 40, MONTH)
    raw.sadd(keys.WRITERS, "w")
    assert caller.call(Hold(request, [MONTH]), Presume(request, "host_lost", "w")) == [0, 0]
    [line] = await in_force(reads)
    assert caller.call(charge(1, "e1", 5, [MONTH]) if told == "writer" else Reverse("e1")) == [0]
    before = ledger(raw)

    assert await repricer.apply([(line, at_price(line, 55))]) == [False]
    assert ledger(raw) == before


async def test_a_background_response_that_was_presumed_and_repriced_may_still_be_told(
    reads: Reads, repricer: Repricer, raw: Any
) -> None:
    caller = Caller(raw)
    request = opened("e1", 40, MONTH)
    raw.sadd(keys.WRITERS, "w")
    assert caller.call(Hold(request, [MONTH]), park(1, "e1", "resp 1")) == [0, 0]
    assert caller.call(PresumeParked(request, "never_asked", keys.background("resp 1"), 10**10)) == [0]
    [line] = await in_force(reads)
    assert line.upstream_id == "resp 1"
    assert await repricer.apply([(line, at_price(line, 55))]) == [True]
    assert (await verify(reads)).difference is None
    assert caller.call(charge(2, "e1", 5, [MONTH], parked="resp 1")) == [0]

    assert (standing(raw, MONTH), sums(raw)) == ((5, 0), {"requests": 1, "input": 10, "output": 5, "nanos": 5})
    assert await repricer.apply([(line, at_price(line, 66))]) == [False]


async def test_an_entry_without_a_price_that_was_presumed_gets_one(reads: Reads, repricer: Repricer, raw: Any) -> None:
    caller = Caller(raw)
    request = opened("e1", None, MONTH)
    raw.sadd(keys.WRITERS, "w")
    assert caller.call(Hold(request, [MONTH]), Presume(request, "host_lost", "w")) == [0, 0]
    [line] = await in_force(reads)
    assert (line.status, line.counted_as) == ("unpriced", "presumed")
    priced = msgspec.structs.replace(at_price(line, 9), status="presumed", counted_as=None)
    assert await repricer.apply([(line, priced)]) == [True]

    assert standing(raw, MONTH) == (9, 0)
    assert caller.call(charge(1, "e1", 5, [MONTH])) == [0]
    assert standing(raw, MONTH) == (5, 0)


async def test_it_goes_on_beside_traffic(store: Store, reads: Reads, repricer: Repricer, raw: Any) -> None:
    for number in range(200):
        store.settle(paid(f"e{number}", 10, MONTH), [MONTH])
    await applied(store)
    lines = await in_force(reads)

    async def work() -> None:
        for number in range(300):
            store.settle(paid(f"w{number}", 1, MONTH), [MONTH])
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        group.create_task(work())
        done = await repricer.apply([(line, at_price(line, 4)) for line in lines])
    await applied(store)

    assert all(done)
    assert standing(raw, MONTH) == (200 * 4 + 300, 0)
    assert (await verify(reads)).difference is None
