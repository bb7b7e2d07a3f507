"""A budget that came later counts what the ledger has of its period: each line once, whoever wrote it and whoever counts."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
import redis

from proxy.budgets import Account, Budget, BudgetBook, Owner, PeriodKind, period_at
from proxy.ledger.entry import LedgerEntry, Moved
from proxy.store import Store, keys
from proxy.store.backfill import Unread, count_on, refuse_trimmed
from proxy.store.ledger import CLOCK_SKEW
from proxy.store.reads import Reads
from proxy.store.verify import verify
from tests.store.cases import AT, account, entry
from tests.store.conftest import applied
from tests.store.reading import open_reads
from tests.store.servers import Server

OLD = account("old")
KEY = Owner.of_digest("1a2b3c4d" + "0" * 56)


def new(name: str = "new", **fields: Any) -> Budget:
    values: dict[str, Any] = {"name": name, "limit": 10**6, "period": PeriodKind.TOTAL, "backfill": True, **fields}
    return Budget(**values)


def account_of(budget: Budget, owner: str | None = None) -> Account:
    return Account(budget, period_at(budget.period, budget.timezone, AT), owner)


@pytest.fixture
async def reads(server: Server) -> AsyncIterator[Reads]:
    async with open_reads(server.url) as reads:
        yield reads


async def settle(store: Store, *lines: LedgerEntry, accounts: tuple[Account, ...] = (OLD,)) -> None:
    for line in lines:
        nanos = line.cost_nanos or 0
        moved = tuple(Moved(each.budget.name, each.key, nanos) for each in accounts)
        store.settle(msgspec.structs.replace(line, moved=moved), accounts)
    await applied(store)


async def fill(reads: Reads, *budgets: Budget) -> list[int]:
    book = BudgetBook(budgets)
    return [await count_on(reads, book, budget, AT) for budget in budgets]


async def spent(store: Store, *accounts: Account) -> list[int]:
    return [standing.spent for standing in await store.read_accounts(accounts)]


async def test_what_matches_is_counted_once_and_what_comes_later_too(store: Store, reads: Reads) -> None:
    await settle(
        store, entry("e1", 100), entry("e2", 20, owner="beta"), entry("e3", None), entry("e4", 0, status="failed")
    )
    everything, acme = new(), new("acme", owner="acme", model="gpt-4o-mini-*", period=PeriodKind.MONTH)

    assert await fill(reads, everything, acme) == [120, 100]
    assert await fill(reads, everything, acme) == [0, 0]
    assert await spent(store, account_of(everything), account_of(acme)) == [120, 100]

    await settle(store, entry("e5", 7))  # by a proxy that does not know the new budgets yet
    await settle(store, entry("e6", 1), accounts=(OLD, account_of(everything), account_of(acme)))  # by one that does
    assert await fill(reads, everything, acme) == [7, 7]
    assert await spent(store, account_of(everything), account_of(acme)) == [128, 108]
    assert (await verify(reads)).difference is None


async def test_what_does_not_match_is_not_counted(store: Store, reads: Reads) -> None:
    await settle(store, entry("e1", 100))
    budgets = [
        new("a", owner="beta"),
        new("b", model="gpt-4.1*"),
        new("c", fine_tuned=True),
        new("d", period=PeriodKind.DAY),
    ]
    yesterday = AT - timedelta(days=1)
    await settle(store, entry("e2", 5, at=yesterday.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), owner="gamma"))

    assert await fill(reads, *budgets) == [0, 0, 0, 100]


async def test_corrections_and_new_prices_count_as_differences(store: Store, reads: Reads) -> None:
    line = entry("e1", 100)
    await settle(store, line, entry("e2", None))
    budget = new()
    assert await fill(reads, budget) == [100]

    right = msgspec.structs.replace(line, line="correction", cost_nanos=60)
    priced = msgspec.structs.replace(entry("e2", 9), line="correction")
    await settle(store, line.reversed(), right, entry("e2", None).reversed(), priced)

    assert await fill(reads, budget) == [-100 + 60 + 9]
    assert await spent(store, account_of(budget)) == [69]


async def test_each_owner_has_an_account_of_its_own_by_identity(store: Store, reads: Reads, raw: redis.Redis) -> None:
    twin = KEY.identity[:-1] + "1"
    await settle(
        store,
        entry("e1", 100),
        entry("e2", 20, owner=KEY.name, identity=KEY.identity),
        entry("e3", 3, owner=KEY.name, identity=twin),
    )
    each = new(per_owner=True, period=PeriodKind.MONTH)

    assert await fill(reads, each) == [123]
    accounts = [account_of(each, owner) for owner in ("acme", KEY.identity, twin)]
    assert await spent(store, *accounts) == [100, 20, 3]
    assert set(await store.owners_of(each, accounts[0].period)) == {"acme", KEY.identity, twin}
    end = accounts[0].ends_at
    assert end is not None
    for name in (keys.COMMITTED + accounts[0].key, keys.HELD + accounts[0].key, keys.OWNERS + accounts[0].series):
        assert raw.expiretime(name) == end + keys.KEPT_AFTER_PERIOD_SECONDS


async def test_two_that_count_at_once_under_traffic_count_each_line_once(
    store: Store, reads: Reads, server: Server
) -> None:
    budget = new()
    known = account_of(budget)
    async with open_reads(server.url) as others:

        async def traffic() -> None:
            for number in range(300):
                accounts = (OLD, known) if number % 3 == 0 else (OLD,)
                await settle(store, entry(f"e{number}", 1), accounts=accounts)

        async def count(by: Reads) -> None:
            while not is_over.is_set():
                await fill(by, budget)
                await asyncio.sleep(0)

        is_over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            counting = [group.create_task(count(each)) for each in (reads, others)]
            await traffic()
            is_over.set()
        assert all(each.done() for each in counting)
        await fill(reads, budget)
    assert await spent(store, known) == [300]
    assert (await verify(reads)).difference is None


async def test_where_lines_of_the_period_are_trimmed_it_is_refused(
    store: Store, reads: Reads, raw: redis.Redis
) -> None:
    await settle(store, *(entry(f"e{number}", 1) for number in range(5)))
    budget, month = new(), new("month", period=PeriodKind.MONTH)
    await store.trim_ledger(keep=timedelta(days=90), most=3)

    for each in (budget, month):
        with pytest.raises(Unread, match=r'budget "(new|month)": backfill = true needs every ledger line'):
            await fill(reads, each)
        with pytest.raises(Unread):
            await refuse_trimmed(reads, each, account_of(each).period)
    assert await spent(store, account_of(budget), account_of(month)) == [0, 0]
    # What was trimmed before the period began is in nobody's way, but for a budget without a period.
    start = account_of(month).period.start
    assert start is not None
    long_ago = int((start - CLOCK_SKEW - timedelta(seconds=1)).timestamp() * 1000)
    raw.hset(keys.TRIMMED, "place", f"{long_ago}-0")
    await refuse_trimmed(reads, month, account_of(month).period)
    assert await fill(reads, month) == [3]
    with pytest.raises(Unread):
        await fill(reads, budget)


async def test_what_was_counted_may_be_trimmed(store: Store, reads: Reads) -> None:
    budget = new()
    await settle(store, *(entry(f"e{number}", 1) for number in range(5)))
    assert await fill(reads, budget) == [5]
    await store.trim_ledger(keep=timedelta(days=90), most=0)
    await settle(store, entry("e9", 1))

    await refuse_trimmed(reads, budget, account_of(budget).period)
    assert await fill(reads, budget) == [1]
    assert await spent(store, account_of(budget)) == [6]
    assert (await verify(reads)).difference is None


async def test_lines_that_were_trimmed_before_they_were_counted_are_told(store: Store, reads: Reads) -> None:
    budget = new()
    await settle(store, entry("e1", 1))
    assert await fill(reads, budget) == [1]
    await settle(store, entry("e2", 1), entry("e3", 1))
    await store.trim_ledger(keep=timedelta(days=90), most=1)

    with pytest.raises(Unread):
        await fill(reads, budget)
    assert await spent(store, account_of(budget)) == [1]


async def test_a_sum_that_is_no_number_stops_it_before_anything_is_written(
    store: Store, reads: Reads, raw: redis.Redis
) -> None:
    await settle(store, entry("e1", 1))
    budget = new()
    raw.hset(keys.OPENING, account_of(budget).key, "x")

    with pytest.raises(Exception, match="is not a number"):
        await fill(reads, budget)
    assert raw.exists(keys.COMMITTED + account_of(budget).key) == 0
    assert raw.hlen(keys.BACKFILLED) == 0
