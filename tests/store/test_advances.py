"""Money set aside ahead: streams need not wait for the store, what is committed never grows without its word, and all of
it goes back.
"""

import asyncio
from pathlib import Path

import pytest
import redis

from proxy.budgets import Account
from proxy.journal import adopt
from proxy.ledger import LedgerEntry
from proxy.store import Store, Sweeping, keys
from proxy.store.advances import AHEAD, FAR
from proxy.store.operations import Advance, Hold, Release
from tests.store.calling import Caller, charge, standing
from tests.store.cases import account, entry, opened
from tests.store.conftest import applied, eventually
from tests.store.servers import Server

BUDGET = account("far", limit=100_000)
WATCHED = account("watched", limit=10, refuses=False)
BOTH = [BUDGET, WATCHED]
HOLD = 10


def take(store: Store, entry_id: str, nanos: int = HOLD, accounts: list[Account] | None = None) -> bool:
    accounts = accounts or BOTH
    return store.hold_ahead(opened(entry_id, nanos, *accounts), accounts)


async def ask_ahead(store: Store, nanos: int = HOLD, accounts: list[Account] | None = None) -> None:
    """Two streams, one after the other: both have to ask, and the second one has an advance asked for."""
    assert not take(store, "first", nanos, accounts)
    assert not take(store, "second", nanos, accounts)
    await applied(store)


def advances(store: Store) -> list[Advance]:
    return [hold for hold in store._pending.live.values() if isinstance(hold, Advance)]


async def test_streams_that_follow_one_another_do_not_wait(own_server: Server, writer: Store) -> None:
    with own_server.client() as raw:
        await ask_ahead(writer)
        assert standing(raw, BUDGET) == standing(raw, WATCHED) == (AHEAD * HOLD, AHEAD * HOLD)
        for number in range(AHEAD // 2):
            assert take(writer, f"e{number}")
        assert writer.begin([f"e{number}" for number in range(AHEAD // 2)]) is None
        await applied(writer)
        assert standing(raw, BUDGET) == (AHEAD * HOLD, AHEAD * HOLD)  # moved, and nothing more
        assert raw.hlen(keys.holds("w1")) == 1 + AHEAD // 2
        for number in range(AHEAD // 2):
            writer.settle(entry(f"e{number}", 3), BOTH)
        await applied(writer)
        spent = 3 * (AHEAD // 2)
        assert standing(raw, BUDGET) == (spent + HOLD * (AHEAD // 2), HOLD * (AHEAD // 2))


async def test_it_is_asked_for_again_before_it_is_used_up(writer: Store) -> None:
    await ask_ahead(writer)
    for number in range(5 * AHEAD):
        assert take(writer, f"e{number}"), number
        writer.release(f"e{number}")
        if number % 4 == 0:
            await applied(writer)
    assert len(advances(writer)) <= 2


async def test_when_streams_pause_it_goes_back(own_server: Server, writer: Store) -> None:
    with own_server.client() as raw:
        await ask_ahead(writer)
        assert take(writer, "e1")
        writer.settle(entry("e1", 3), BOTH)
        await eventually(lambda: standing(raw, BUDGET) == (3, 0), 2)
        assert not advances(writer)
        assert not take(writer, "e2")


async def test_one_that_is_granted_when_they_have_paused_goes_back_at_once(own_server: Server, writer: Store) -> None:
    with own_server.client() as raw:
        assert not take(writer, "first")
        assert not take(writer, "second")
        writer._advances.clear([WATCHED])
        await eventually(lambda: standing(raw, BUDGET) == (0, 0) and not len(writer._pending))
        assert raw.exists(keys.committed(BUDGET.key))


async def test_single_streams_set_nothing_aside(own_server: Server, writer: Store) -> None:
    with own_server.client() as raw:
        for number in range(4):
            assert not take(writer, f"e{number}")
            await asyncio.sleep(0.06)
        await applied(writer)
        assert standing(raw, BUDGET) == (0, 0)


async def test_near_a_limit_there_is_none(own_server: Server, writer: Store) -> None:
    near = account("near", limit=FAR * AHEAD * HOLD - 1)
    with own_server.client() as raw:
        await ask_ahead(writer, accounts=[near])
        assert not take(writer, "e1", accounts=[near])
        await applied(writer)
        assert standing(raw, near) == (0, 0)
        assert not writer._pending.live


async def test_a_larger_stream_gives_it_back_and_asks(own_server: Server, writer: Store) -> None:
    with own_server.client() as raw:
        await ask_ahead(writer)
        assert not take(writer, "large", AHEAD * HOLD + 1)
        await applied(writer)
        size = AHEAD * (AHEAD * HOLD + 1)
        assert standing(raw, BUDGET) == (size, size)
        assert take(writer, "large", AHEAD * HOLD + 1)


@pytest.mark.parametrize("nanos", [0, None, 10**16])
async def test_what_costs_nothing_or_too_much_is_not_taken_out_of_it(
    own_server: Server, writer: Store, nanos: int | None
) -> None:
    for _ in range(2):
        assert not writer.hold_ahead(opened("e1", nanos), BOTH)
    await applied(writer)
    assert not writer._pending.live


async def test_before_a_request_is_refused_it_goes_back(own_server: Server, writer: Store) -> None:
    other = await Store.open(own_server.url, writer="w2", timeout=0.5)
    await ask_ahead(writer)
    assert await other.hold(opened("others", 100_000 - AHEAD * HOLD), [BUDGET]) is None
    refusal = await writer.hold(opened("e1", HOLD), BOTH)
    assert refusal is not None
    assert refusal.held == 100_000
    assert writer.clear_ahead([WATCHED]) == AHEAD * HOLD
    assert writer.clear_ahead([WATCHED]) == 0
    assert await writer.hold(opened("e1", HOLD), BOTH) is None
    assert not advances(writer)
    await other.close(1)


async def test_with_the_store_away_there_is_none(own_server: Server, writer: Store) -> None:
    await ask_ahead(writer)
    assert take(writer, "e1")
    await applied(writer)
    own_server.kill()
    await eventually(lambda: not writer.is_connected)
    assert not take(writer, "e2")


async def test_a_store_that_has_lost_it_holds_each_stream_for_itself(own_server: Server, writer: Store) -> None:
    with own_server.client() as raw:
        await ask_ahead(writer)
        assert take(writer, "e1")
        assert take(writer, "e2")
        await applied(writer)
        raw.delete(keys.holds("w1"), keys.committed(BUDGET.key), keys.held(BUDGET.key))
        raw.delete(keys.committed(WATCHED.key), keys.held(WATCHED.key))
        raw.client_kill_filter(_type="normal", skipme=True)
        await eventually(lambda: standing(raw, BUDGET) == (2 * HOLD, 2 * HOLD))
        assert not advances(writer)
        assert not take(writer, "e3")


async def test_a_lost_connection_keeps_it(own_server: Server, writer: Store) -> None:
    with own_server.client() as raw:
        await ask_ahead(writer)
        life = writer._connection.life
        raw.client_kill_filter(_type="normal", skipme=True)
        await eventually(lambda: writer._connection.life > life and writer._connection._is_ready)
        [advance] = advances(writer)
        assert advance.left == AHEAD * HOLD
        assert standing(raw, BUDGET) == (AHEAD * HOLD, AHEAD * HOLD)


async def test_who_ends_gives_it_back(own_server: Server, writer: Store) -> None:
    with own_server.client() as raw:
        await ask_ahead(writer)
        await writer.close(1)
        assert standing(raw, BUDGET) == (0, 0)
        assert not raw.exists(keys.holds("w1"))


async def test_whoever_adopts_a_dead_writer_gives_it_back(own_server: Server, writer: Store, tmp_path: Path) -> None:
    with own_server.client() as raw:
        await ask_ahead(writer)
        assert take(writer, "e1")
        assert writer.begin(["e1"]) is None
        await applied(writer)
        assert writer._journal is not None
        writer._journal.close(remove=False)
        writer._connection._task.cancel()
        adopted = adopt(tmp_path / "journal" / "w1")
        assert adopted is not None
        heard: list[LedgerEntry] = []
        await Store.finish(own_server.url, adopted, timeout=1, reason="worker_died", on_presumed=heard.append)
        assert [each.id for each in heard] == ["e1"]
        assert standing(raw, BUDGET) == (HOLD, 0)


async def test_a_sweeper_gives_it_back_and_presumes_nothing_of_it(own_server: Server, writer: Store) -> None:
    with own_server.client() as raw:
        await ask_ahead(writer)
        assert take(writer, "e1")
        await applied(writer)
        writer._connection._task.cancel()
        heard: list[LedgerEntry] = []
        sweeping = Sweeping(own_server.url, heard.append)
        beat = (await sweeping.beats())["w1"]
        assert await sweeping.sweep("w1", beat, "host_lost") == 1
        assert [each.id for each in heard] == ["e1"]
        assert standing(raw, BUDGET) == (HOLD, 0)
        assert not raw.sismember(keys.WRITERS, "w1")


def ahead(advance_id: str, nanos: int) -> Advance:
    return Advance(advance_id, nanos, BOTH, times=1)


def test_taking_it_twice_takes_it_once(raw: redis.Redis) -> None:
    caller = Caller(raw)
    hold = Hold(opened("e1", 4), BOTH, times=0, advance="a1")
    assert caller.call(ahead("a1", 10), hold, hold) == [0, 0, 0]
    assert standing(raw, BUDGET) == (10, 10)
    assert caller.call(charge(1, "e1", 3, [BUDGET]), Release("a1"), Release("a1")) == [0, 0, 0]
    assert (standing(raw, BUDGET), standing(raw, WATCHED)) == ((3, 0), (0, 0))


@pytest.mark.parametrize("accounts", [BOTH, [BUDGET], [WATCHED, BUDGET]])
def test_where_it_has_too_little_or_other_accounts_a_hold_is_one_like_others(
    raw: redis.Redis, accounts: list[Account]
) -> None:
    caller = Caller(raw)
    hold = Hold(opened("e1", 4), accounts, times=0, advance="a1")
    assert caller.call(ahead("a1", 3), hold) == [0, 0]
    assert standing(raw, BUDGET) == (7, 7)
    assert caller.call(Release("e1"), Release("a1")) == [0, 0]
    assert (standing(raw, BUDGET), standing(raw, WATCHED)) == ((0, 0), (0, 0))
