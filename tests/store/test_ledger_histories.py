"""Random histories of holds, entries, corrections, sweeps, trims and re-pricing: all of it adds up, to the nano, and any

one number that is changed afterwards is told.
"""

import asyncio
import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.budgets import Account
from proxy.ledger.entry import LedgerEntry, Moved
from proxy.store import Store, keys
from proxy.store.finished import Charge
from proxy.store.ledger import Ledger
from proxy.store.ledger_reprice import Repricer, current_entries
from proxy.store.ledger_trim import trim
from proxy.store.operations import Hold, Presume, Reverse
from proxy.store.reads import Reads
from proxy.store.verify import verify
from tests.store.calling import Caller
from tests.store.cases import AT, account, entry, opened
from tests.store.conftest import applied
from tests.store.reading import open_reads
from tests.store.servers import Server

ACCOUNTS = (account("monthly"), account("forever", period="total", owner="acme"), account("daily", period="day"))
STATUSES = ("reported", "estimated", "presumed", "unpriced", "failed")
STEPS = ("settle", "hold", "release", "settle held", "presume", "tell presumed", "never sent", "trim", "reprice")


class History:
    """What was done to a store, and what each attempt costs now by our own books."""

    def __init__(self, store: Store, reads: Reads, raw: Any, seed: int) -> None:
        self.chance = random.Random(seed)
        self.costs: dict[str, int | None] = {}
        self.accounts: dict[str, tuple[Account, ...]] = {}
        self.held: dict[str, tuple[int, tuple[Account, ...]]] = {}
        self.swept: dict[str, None] = {}
        self._store, self._reads, self._raw = store, reads, raw
        self._caller = Caller(raw, "swept")
        self._told = 0
        self._ids = 0
        raw.sadd(keys.WRITERS, "swept")

    async def step(self, name: str) -> None:
        held, swept = next(iter(self.held), None), next(iter(self.swept), None)
        match name:
            case "settle":
                self._settle(self._next_id(), self._some())
            case "hold":
                entry_id, accounts, most = self._next_id(), self._some(), self.chance.randrange(10**6)
                self._store.hold_later(opened(entry_id, most, *accounts), accounts)
                self.held[entry_id] = (most, accounts)
            case "release" if held:
                del self.held[held]
                self._store.release(held)
            case "settle held" if held:
                del self.held[held]
                self._settle(held, self._some())
            case "presume":
                entry_id, accounts, nanos = self._next_id(), self._some(), self.chance.choice((None, 0, 7, 10**9))
                request = opened(entry_id, nanos, *accounts)
                assert self._caller.call(Hold(request, accounts).again(), Presume(request, "lost", "swept")) == [0, 0]
                self.swept[entry_id] = None
                self._book(entry_id, nanos, accounts)
            case "tell presumed" if swept:
                del self.swept[swept]
                self._told += 1
                accounts = self._some()
                told = Charge(_line(swept, 12, accounts), accounts)
                told.number = self._told
                assert self._caller.call(told) == [0]
                self._book(swept, 12, accounts)
            case "never sent" if swept:
                del self.swept[swept]
                assert self._caller.call(Reverse(swept)) == [0]
                del self.costs[swept], self.accounts[swept]
            case "trim":
                await applied(self._store)
                await trim(self._reads, keep=timedelta(days=90), most=self.chance.randrange(12))
            case "reprice":
                await applied(self._store)
                await self._reprice()

    def spent(self, of: Account) -> int:
        return sum(self.costs[entry_id] or 0 for entry_id, accounts in self.accounts.items() if of in accounts)

    def held_on(self, of: Account) -> int:
        return sum(nanos for nanos, accounts in self.held.values() if of in accounts)

    async def _reprice(self) -> None:
        repricer = Repricer(self._reads)
        await repricer.begin({"action": "reprice"})
        rate = self.chance.choice((0, 1, 3, 1000))
        async for entries in current_entries(Ledger(self._reads, lines_a_call=5), AT - timedelta(days=1), None):
            changes = [(line, self._priced(line, rate)) for line in entries if line.status != "failed"]
            for (old, new), done in zip(changes, await repricer.apply(changes), strict=True):
                assert done
                self.costs[old.id] = new.cost_nanos
        await repricer.end({"action": "reprice done"})

    def _priced(self, line: LedgerEntry, rate: int) -> LedgerEntry:
        nanos = rate * sum(line.usage.values())
        status = line.counted_as or "reported" if line.status == "unpriced" else line.status
        moved = tuple(Moved(each.budget, each.period, nanos) for each in line.moved)
        return msgspec.structs.replace(
            line, status=status, card=f"card/{rate}", provenance="exact", cost_nanos=nanos, moved=moved, counted_as=None
        )

    def _settle(self, entry_id: str, accounts: tuple[Account, ...]) -> None:
        status = self.chance.choice(STATUSES)
        nanos: int | None = {"unpriced": None, "failed": 0}.get(status, self.chance.choice((0, 1, 10**6, 2**53 + 1)))
        charged = () if status == "failed" else accounts
        self._store.settle(_line(entry_id, nanos, charged, status=status), accounts)
        self._book(entry_id, nanos, charged)

    def _book(self, entry_id: str, nanos: int | None, accounts: tuple[Account, ...]) -> None:
        self.costs[entry_id], self.accounts[entry_id] = nanos, accounts

    def _some(self) -> tuple[Account, ...]:
        return tuple(each for each in ACCOUNTS if self.chance.random() < 0.6)

    def _next_id(self) -> str:
        self._ids += 1
        return f"e{self._ids}"


def _line(entry_id: str, nanos: int | None, accounts: tuple[Account, ...], **changes: Any) -> LedgerEntry:
    moved = tuple(Moved(each.budget.name, each.key, nanos or 0) for each in accounts)
    return entry(entry_id, nanos, moved=moved, **changes)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server("valkey", tmp_path_factory.mktemp("s"))
    server.start()
    yield server
    server.kill()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(STEPS), max_size=40), st.integers(0, 2**32))
def test_every_history_adds_up_and_no_number_changes_unseen(own: Server, steps: list[str], seed: int) -> None:
    asyncio.run(_check(own, steps, seed))


async def _check(server: Server, steps: list[str], seed: int) -> None:
    with server.client() as raw:
        raw.flushall()
        async with (
            await Store.open(server.url, writer="w1", timeout=5) as store,
            open_reads(server.url) as reads,
        ):
            history = History(store, reads, raw, seed)
            for step in steps:
                await history.step(step)
            await applied(store)
            verdict = await verify(reads)
            standings = await store.read_accounts(ACCOUNTS)
            sums = await store.read_sums(AT.date(), AT.date() + timedelta(days=1))

            assert verdict.difference is None
            assert [(each.spent, each.held) for each in standings] == [
                (history.spent(each), history.held_on(each)) for each in ACCOUNTS
            ]
            assert sum(row.nanos for row in sums) == sum(cost or 0 for cost in history.costs.values())
            assert sum(row.requests for row in sums) == len(history.costs)
            unpriced = sum(row.requests for row in sums if row.key.status == "unpriced")
            assert unpriced == sum(cost is None for cost in history.costs.values())
            for change in _changes(raw, history.chance):
                undo = change()
                assert (await verify(reads)).difference is not None
                undo()
            assert (await verify(reads)).difference is None


def _changes(raw: Any, chance: random.Random) -> list[Callable[[], Callable[[], object]]]:
    """Some ways to change one number of budgets, sums or checkpoints, each of which returns how to undo it."""
    found: list[Callable[[], Callable[[], object]]] = []

    def text(name: str) -> Callable[[], Callable[[], object]]:
        def change() -> Callable[[], object]:
            raw.incrby(name, 1)
            return lambda: raw.decrby(name, 1)

        return change

    def field(name: str, of: str) -> Callable[[], Callable[[], object]]:
        def change() -> Callable[[], object]:
            raw.hincrby(name, of, 1)
            return lambda: raw.hincrby(name, of, -1)

        return change

    for prefix in (keys.COMMITTED, keys.HELD, keys.TRIMMED_ACCOUNT):
        found += [text(name) for name in raw.scan_iter(prefix + "*")]
    for prefix in (keys.SUMS, keys.TRIMMED_SUMS):
        found += [field(name, of) for name in raw.scan_iter(prefix + "*") for of in raw.hkeys(name)]
    return chance.sample(found, min(3, len(found)))
