"""What a store promises, on every server it may run on."""

import asyncio
from datetime import timedelta

import pytest
import redis
from redis.exceptions import ResponseError

from proxy.budgets import Account, Owner
from proxy.ledger.sums import SumRow, sum_key
from proxy.store import Refusal, Standing, Store
from tests.store.cases import AT, TODAY, account, entry, opened
from tests.store.conftest import applied
from tests.store.servers import Server


async def standing(store: Store, of: Account) -> tuple[int, int]:
    """Spent and held."""
    [found] = await store.read_accounts([of])
    return found.spent, found.held


async def test_a_hold_is_set_aside_until_its_charge_comes(store: Store) -> None:
    budget = account()
    assert await store.hold(opened("e1", 300), [budget]) is None
    assert await standing(store, budget) == (0, 300)
    store.settle(entry("e1", 120), [budget])
    await applied(store)
    assert await standing(store, budget) == (120, 0)


async def test_a_release_gives_the_whole_hold_back(store: Store) -> None:
    budget = account()
    await store.hold(opened("e1", 300), [budget])
    store.release("e1")
    store.release("e1")
    store.release("never held")
    await applied(store)
    assert await standing(store, budget) == (0, 0)


async def test_the_limit_may_be_reached_and_not_exceeded(store: Store) -> None:
    budget = account(limit=1000)
    assert await store.hold(opened("e1", 1000), [budget]) is None
    refusal = await store.hold(opened("e2", 1), [budget])
    assert refusal == Refusal(budget, "budget_held", spent=0, held=1000)
    assert await standing(store, budget) == (0, 1000)


async def test_a_refusal_says_whether_waiting_helps(store: Store) -> None:
    budget = account(limit=1000)
    store.settle(entry("e1", 600), [budget])
    await store.hold(opened("e2", 300), [budget])
    assert await store.hold(opened("e3", 200), [budget]) == Refusal(budget, "budget_held", 600, 300)
    assert await store.hold(opened("e4", 401), [budget]) == Refusal(budget, "budget_exceeded", 600, 300)


async def test_all_accounts_or_none(store: Store) -> None:
    wide, narrow = account("wide", limit=1000), account("narrow", limit=100)
    refusal = await store.hold(opened("e1", 500), [wide, narrow])
    assert refusal is not None
    assert refusal.account is narrow
    assert await standing(store, wide) == (0, 0)


async def test_of_several_refusals_one_that_waiting_does_not_help_is_told(store: Store) -> None:
    full, spent = account("full", limit=1000), account("spent", limit=100)
    await store.hold(opened("e1", 1000), [full])
    store.settle(entry("e2", 100), [spent])
    refusal = await store.hold(opened("e3", 50), [full, spent])
    assert refusal == Refusal(spent, "budget_exceeded", 100, 0)


async def test_a_budget_that_only_alerts_never_refuses(store: Store) -> None:
    budget = account(limit=10, refuses=False)
    assert await store.hold(opened("e1", 500), [budget]) is None
    assert await standing(store, budget) == (0, 500)
    assert await store.check([budget]) is None


async def test_limits_beyond_two_to_the_53_are_exact(store: Store) -> None:
    limit = 2**53 + 1  # no double is this number
    budget = account(limit=limit, period="total")
    for number in range(9):
        assert await store.hold(opened(f"e{number}", 10**15), [budget]) is None
    assert await store.hold(opened("over", limit - 9 * 10**15 + 1), [budget]) == Refusal(
        budget, "budget_held", 0, 9 * 10**15
    )
    assert await store.hold(opened("fits", limit - 9 * 10**15), [budget]) is None
    assert await standing(store, budget) == (0, limit)
    assert await store.hold(opened("one", 1), [budget]) is not None
    store.settle(entry("fits", limit - 9 * 10**15 - 1), [budget])
    await applied(store)
    assert await store.hold(opened("one", 1), [budget]) is None


async def test_a_hold_larger_than_the_limit_is_exceeded_from_the_start(store: Store) -> None:
    budget = account(limit=5)
    assert await store.hold(opened("e1", 1000), [budget]) == Refusal(budget, "budget_exceeded", 0, 0)


async def test_a_hold_that_comes_again_is_answered_and_not_added(store: Store) -> None:
    budget = account(limit=1000)
    for _ in range(3):
        assert await store.hold(opened("e1", 900), [budget]) is None
    assert await standing(store, budget) == (0, 900)


async def test_nothing_to_hold_asks_nobody(store: Store) -> None:
    assert await store.hold(opened("e1"), []) is None
    store.hold_later(opened("e1"), [])
    assert await store.check([]) is None


async def test_a_hold_nobody_waits_for(store: Store) -> None:
    budget = account(refuses=False)
    store.hold_later(opened("e1", 70), [budget])
    await applied(store)
    assert await standing(store, budget) == (0, 70)


async def test_check_looks_at_what_is_spent_and_not_at_holds(store: Store) -> None:
    budget = account(limit=100)
    await store.hold(opened("e1", 100), [budget])
    assert await store.check([budget]) is None
    store.settle(entry("e1", 100), [budget])
    assert await store.check([account("other"), budget]) == Refusal(budget, "budget_exceeded", 100, 0)


async def test_a_charge_without_a_hold_is_charged_in_full(store: Store) -> None:
    known, late = account("known"), account("late")
    await store.hold(opened("e1", 500), [known])
    store.settle(entry("e1", 200), [known, late])
    await applied(store)
    assert await standing(store, known) == (200, 0)
    assert await standing(store, late) == (200, 0)


async def test_a_charge_may_exceed_its_hold_and_the_limit(store: Store) -> None:
    budget = account(limit=100)
    await store.hold(opened("e1", 10), [budget])
    store.settle(entry("e1", 250), [budget])
    await applied(store)
    assert await standing(store, budget) == (250, 0)


async def test_day_sums_hold_every_quantity(store: Store) -> None:
    one = entry("e1", 120, usage={"input": 100, "cached_input": 20, "output": 5})
    store.settle(one, [])
    store.settle(entry("e2", 80, usage={"input": 50, "output": 5}), [])
    store.settle(entry("e3", None, served_model="mystery"), [])
    await applied(store)
    rows = {row.key.model: row for row in await store.read_sums(TODAY, TODAY + timedelta(days=1))}
    assert rows["gpt-4o-mini-2024-07-18"] == SumRow(
        TODAY.isoformat(), sum_key(one), 2, {"input": 150, "cached_input": 20, "output": 10}, 200
    )
    assert rows["mystery"] == SumRow(
        TODAY.isoformat(), sum_key(entry("e3", None, served_model="mystery")), 1, {"input": 10, "output": 5}, 0
    )
    assert await store.read_sums(TODAY - timedelta(days=3), TODAY) == []


async def test_a_row_may_have_any_text_in_it(store: Store) -> None:
    strange = entry("e1", served_model='a]"requests\\\n\u2028]ü', owner="key-1a2b3c4d")
    store.settle(strange, [])
    await applied(store)
    [row] = await store.read_sums(TODAY, TODAY + timedelta(days=1))
    assert (row.key, row.requests) == (sum_key(strange), 1)


async def test_unpriced_drops_the_hold_and_keeps_the_accounts_for_a_later_price(store: Store, raw: redis.Redis) -> None:
    budget, late = account(), account("late")
    await store.hold(opened("e1", 500), [budget])
    store.settle(entry("e1", None), [budget, late])
    await applied(store)
    assert await standing(store, budget) == (0, 0)
    assert raw.mget("{taximeter}:committed:" + late.key, "{taximeter}:held:" + late.key) == ["0", "0"]
    assert raw.ttl("{taximeter}:committed:" + late.key) > 0


async def test_failed_costs_nothing_and_counts(store: Store) -> None:
    budget = account()
    await store.hold(opened("e1", 500), [budget])
    store.settle(entry("e1", 0, status="failed", usage={}), [budget])
    await applied(store)
    assert await standing(store, budget) == (0, 0)
    [row] = await store.read_sums(TODAY, TODAY + timedelta(days=1))
    assert (row.requests, row.nanos, row.quantities) == (1, 0, {})


async def test_the_ledger_gives_entries_back_as_they_were(store: Store) -> None:
    entries = [entry(f"e{number}", number, asked_model=None if number % 2 else "ü") for number in range(1200)]
    for each in entries:
        store.settle(each, [])
    await applied(store)
    assert [found async for found in store.read_ledger()] == entries


async def test_the_ledger_between_two_moments(store: Store) -> None:
    for hours in range(5):
        store.settle(entry(f"e{hours}", at=(AT - timedelta(hours=hours)).isoformat()), [])
    await applied(store)
    since, until = AT - timedelta(hours=3), AT - timedelta(hours=1)
    assert [found.id async for found in store.read_ledger(since=since, until=until)] == ["e2", "e3"]


async def test_text_that_is_no_text_loses_no_charge(store: Store) -> None:
    store.settle(entry("e1", 70, client_request_id="a\udc80b"), [account()])
    await applied(store)
    assert [found.client_request_id async for found in store.read_ledger()] == ["a?b"]
    assert await standing(store, account()) == (70, 0)
    assert store.set_aside == 0


async def test_keys_of_a_period_expire_90_days_after_it_and_totals_never(store: Store, raw: redis.Redis) -> None:
    month, total, each = account("m"), account("t", period="total"), account("p", owner="acme")
    await store.hold(opened("e1", 1), [month, total, each])
    store.settle(entry("e1", 5), [month, total, each, account("late")])
    store.settle(entry("e2", 5), [month, total, each])
    await applied(store)
    assert month.period.end is not None
    expected = int((month.period.end + timedelta(days=90)).timestamp())
    mortal = {
        f"{{taximeter}}:{kind}:{of.key}" for of in (month, each, account("late")) for kind in ("committed", "held")
    } | {"{taximeter}:owners:" + each.series}
    for key in raw.scan_iter():
        if key in mortal:
            assert raw.expiretime(key) == expected, key
            mortal.remove(key)
        elif key != "{taximeter}:writer:w1":
            assert raw.ttl(key) == -1, key
    assert not mortal
    assert 0 < raw.ttl("{taximeter}:writer:w1") <= 90 * 86_400


async def test_a_charge_that_comes_after_its_account_expired_leaves_no_key(store: Store, raw: redis.Redis) -> None:
    old = account("old", at=AT - timedelta(days=200))
    await store.hold(opened("e1", 50), [old])
    store.settle(entry("e1", 20), [old])
    await store.hold(opened("e2", 50), [old])
    store.release("e2")
    await applied(store)
    assert not list(raw.scan_iter("*old*"))
    assert not raw.exists("{taximeter}:holds:w1")
    assert [found.id async for found in store.read_ledger()] == ["e1"]


async def test_a_hold_whose_account_is_gone_drops_without_a_trace(store: Store, raw: redis.Redis) -> None:
    budget = account()
    await store.hold(opened("e1", 50), [budget])
    raw.delete("{taximeter}:committed:" + budget.key, "{taximeter}:held:" + budget.key)
    store.release("e1")
    await applied(store)
    assert not list(raw.scan_iter("*:held:*"))


async def test_owners_of_a_budget_per_owner(store: Store) -> None:
    digest = Owner.of_digest("1a2b3c4d" + "0" * 56)
    mine, theirs = account(owner="acme"), account(owner=digest.identity)
    await store.hold(opened("e1", 10), [mine])
    store.settle(entry("e2", 30), [theirs])
    await applied(store)
    identities = await store.owners_of(mine.budget, mine.period)
    assert identities == ["acme", digest.identity]
    accounts = [Account(mine.budget, mine.period, identity) for identity in identities]
    found = await store.read_accounts(accounts)
    assert found == [Standing(accounts[0], 0, 10), Standing(accounts[1], 30, 0)]
    assert [each.owner_name for each in found] == ["acme", "key-1a2b3c4d"]


async def test_many_accounts_are_read_in_order(store: Store) -> None:
    accounts = [account(f"b{number}") for number in range(1201)]
    store.settle(entry("e1", 5), accounts[::100])
    await applied(store)
    found = await store.read_accounts(accounts)
    assert [each.account for each in found] == accounts
    assert sum(each.spent for each in found) == 5 * 13


async def test_200_at_once_on_a_budget_for_100(store: Store) -> None:
    budget = account(limit=100_000)
    answers = await asyncio.gather(*(store.hold(opened(f"e{number}", 1000), [budget]) for number in range(200)))
    assert [answer is None for answer in answers] == [True] * 100 + [False] * 100
    assert await standing(store, budget) == (0, 100_000)


async def test_two_stores_at_once(server: Server, store: Store) -> None:
    budget = account(limit=100_000)
    async with await Store.open(server.url, writer="w2", timeout=5) as other:

        async def ride(of: Store, number: int) -> bool:
            if await of.hold(opened(f"e{number}", 1000), [budget]) is not None:
                return False
            of.settle(entry(f"e{number}", 1000), [budget])
            return True

        rides = [ride(of, number) for number, of in enumerate([store, other] * 100)]
        assert sum(await asyncio.gather(*rides)) == 100
        await applied(store)
        await applied(other)
    assert await standing(store, budget) == (100_000, 0)
    assert len([found async for found in store.read_ledger()]) == 100


async def test_calls_of_one_turn_travel_together(store: Store, raw: redis.Redis) -> None:
    await store.hold(opened("warm", 1), [account()])
    raw.config_resetstat()
    await asyncio.gather(*(store.hold(opened(f"e{number}", 1), [account()]) for number in range(128)))
    assert raw.info("commandstats")["cmdstat_evalsha"]["calls"] == 2


async def test_a_cancelled_hold_is_given_back(store: Store) -> None:
    budget = account()
    task = asyncio.get_running_loop().create_task(store.hold(opened("e1", 300), [budget]))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await store.hold(opened("e2", 1), [budget])
    await applied(store)
    assert await standing(store, budget) == (0, 1)


async def test_a_writer_that_comes_back_goes_on_counting(server: Server, store: Store) -> None:
    budget = account()
    for number in range(3):
        async with await Store.open(server.url, writer="again", timeout=5) as again:
            again.settle(entry(f"e{number}", 10), [budget])
    assert await standing(store, budget) == (30, 0)


async def test_a_writer_that_wrote_nothing_leaves_nothing(server: Server, raw: redis.Redis) -> None:
    async with await Store.open(server.url, writer="reader", timeout=5) as reader:
        await reader.ping()
    assert not list(raw.scan_iter())


async def test_what_is_rejected_for_ever_is_set_aside_and_blocks_nothing(store: Store, raw: redis.Redis) -> None:
    budget, broken = account(), account("broken")
    await store.hold(opened("e2", 500), [budget])
    raw.lpush("{taximeter}:committed:" + broken.key, "no number")
    for number in range(4):
        store.settle(entry(f"e{number}", 10), [budget, broken] if number == 2 else [budget])
    await applied(store)
    assert [found.id for found in store._pending.set_aside] == ["e2"]
    assert [found.id async for found in store.read_ledger()] == ["e0", "e1", "e3"]
    assert await standing(store, budget) == (30, 0)
    assert store.waiting == 0


@pytest.mark.parametrize("key", ["ledger", f"sums:{TODAY}", "owners:each/total"])
async def test_a_key_of_another_type_changes_nothing_by_half(store: Store, raw: redis.Redis, key: str) -> None:
    budget = account()
    raw.set("{taximeter}:" + key, "in the way")
    store.settle(entry("e1", 10), [budget, account("each", period="total", owner="acme")])
    store.settle(entry("e2", 10), [budget])
    await applied(store)
    raw.delete("{taximeter}:" + key)
    store.settle(entry("e3", 10), [budget])
    await applied(store)
    ledger = [found.id async for found in store.read_ledger()]
    assert (await standing(store, budget))[0] == 10 * len(ledger)
    assert len(ledger) + store.set_aside == 3


async def test_no_sum_wraps_around(store: Store, raw: redis.Redis) -> None:
    budget = account(limit=2**62, refuses=False)
    raw.set("{taximeter}:committed:" + budget.key, str(9_200_000_000_000_000_001))
    raw.set("{taximeter}:held:" + budget.key, "0")
    store.hold_later(opened("e1", 10**15), [budget])
    store.settle(entry("e2", 10**15), [budget])
    store.settle(entry("e3", 10**17), [budget])
    await applied(store)
    assert raw.get("{taximeter}:committed:" + budget.key) == "9200000000000000001"
    assert {found.id for found in store._pending.set_aside} == {"e2", "e3"}


async def test_the_script_is_loaded_again_when_the_server_forgot_it(store: Store, raw: redis.Redis) -> None:
    await store.hold(opened("e1", 1), [account()])
    raw.script_flush()
    assert await store.hold(opened("e2", 1), [account()]) is None
    assert await standing(store, account()) == (0, 2)


def test_the_script_is_refused_as_a_whole_when_the_server_is_full(own_server: Server) -> None:
    """What the shebang is for: no half of a script runs."""
    from proxy.store.script import SOURCE

    assert SOURCE.startswith(b"#!lua\n")
    with own_server.client() as client:
        client.config_set("maxmemory", "1")
        with pytest.raises((redis.exceptions.OutOfMemoryError, ResponseError)):
            client.eval(SOURCE.decode(), 0)
