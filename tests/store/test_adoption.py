"""What a dead writer left is finished in its name, whatever had reached the store, and once."""

import asyncio
from pathlib import Path

import pytest
import redis

from proxy.budgets import Account
from proxy.journal import Journal, adopt, orphans
from proxy.ledger import LedgerEntry
from proxy.store import Store, uncounted_entries
from proxy.store.operations import Hold
from tests.store.calling import Caller, ledger, standing, sums
from tests.store.cases import account, entry, opened, parked_request
from tests.store.conftest import applied, eventually
from tests.store.servers import Server

BUDGET = account(limit=10**6)


async def writer(server: Server, journals: Path, name: str = "w1") -> Store:
    return await Store.open(server.url, writer=name, timeout=1, journal=Journal.create(journals, name))


async def die(store: Store) -> None:
    """As kill -9 does it: connections close, locks are free, and nothing is said."""
    connection = store._connection
    for task in (connection._task, store._durability._task):  # type: ignore[union-attr]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    if connection._wire is not None:
        await connection._wire.close()
    await store._durability._drop()  # type: ignore[union-attr]
    await store._reads.close()
    assert store._journal is not None
    store._journal.close(remove=False)


async def begin(store: Store, entry_id: str, budget: Account = BUDGET) -> None:
    assert await store.hold(opened(entry_id, 40, budget), [budget]) is None
    assert store.begin([entry_id]) is None


async def inherit(url: str, journals: Path) -> list[LedgerEntry]:
    presumed: list[LedgerEntry] = []
    for path in orphans(journals):
        adopted = adopt(path)
        assert adopted is not None
        await Store.finish(url, adopted, timeout=1, reason="worker_died", on_presumed=presumed.append)
    return presumed


def traces(raw: redis.Redis) -> list[str]:
    return [key for key in raw.scan_iter() if any(word in key for word in ("writer", "holds", "presumed:"))]


async def test_what_is_open_is_presumed_and_what_was_not_sent_is_not(
    server: Server, raw: redis.Redis, tmp_path: Path
) -> None:
    store = await writer(server, tmp_path)
    await begin(store, "under way")
    await begin(store, "settled")
    await begin(store, "dropped")
    assert await store.hold(opened("never sent", 40, BUDGET), [BUDGET]) is None
    store.settle(entry("settled", 7), [BUDGET])
    store.release("dropped")
    await applied(store)
    await die(store)
    assert standing(raw, BUDGET) == (7 + 80, 80)

    presumed = await inherit(server.url, tmp_path)

    assert [(each.id, each.status, each.reason, each.cost_nanos) for each in presumed] == [
        ("under way", "presumed", "worker_died", 40)
    ]
    assert {line["id"]: line["cost_nanos"] for line in ledger(raw)} == {"settled": 7, "under way": 40}
    assert (standing(raw, BUDGET), sums(raw)["requests"]) == ((47, 0), 2)
    assert list(tmp_path.iterdir()) == []
    assert traces(raw) == []


async def test_what_no_metric_counts_is_known(server: Server, tmp_path: Path) -> None:
    """A worker counts at the end of a turn; it may be killed before."""
    store = await writer(server, tmp_path)
    assert store._journal is not None
    for name in ("counted", "not counted", "background"):
        await begin(store, name)
    store.settle(entry("counted", 7), [BUDGET])
    store._journal.counted()
    store.settle(entry("not counted", 8), [BUDGET])
    store.park("resp_1", parked_request("background"), opened("background", 40, BUDGET))
    await applied(store)
    await die(store)
    for _ in range(2):
        adopted = adopt(tmp_path / "w1")
        assert adopted is not None
        assert [each.id for each in uncounted_entries(adopted)] == ["not counted"]
        adopted.journal.close(remove=False)
    adopted = adopt(tmp_path / "w1")
    assert adopted is not None
    adopted.journal.counted()
    adopted.journal.close(remove=False)
    adopted = adopt(tmp_path / "w1")
    assert adopted is not None
    assert uncounted_entries(adopted) == []
    adopted.journal.close(remove=False)


async def test_what_the_store_had_not_applied_is_applied(own_server: Server, tmp_path: Path) -> None:
    store = await writer(own_server, tmp_path)
    for number in range(200):
        await begin(store, f"e{number}")
    own_server.pause()
    for number in range(200):
        store.settle(entry(f"e{number}", 7), [BUDGET])
    await asyncio.sleep(0.05)
    await die(store)
    own_server.resume()
    assert await inherit(own_server.url, tmp_path) == []
    with own_server.client() as raw:
        assert sorted(line["id"] for line in ledger(raw)) == sorted(f"e{number}" for number in range(200))
        assert standing(raw, BUDGET) == (1400, 0)
        assert traces(raw) == []


async def test_a_late_call_of_the_dead_changes_nothing(server: Server, raw: redis.Redis, tmp_path: Path) -> None:
    store = await writer(server, tmp_path)
    await begin(store, "e1")
    token = raw.hget("{taximeter}:writer:w1", "token")
    await die(store)
    await inherit(server.url, tmp_path)
    late = Caller(raw, "w1", str(token))
    raw.delete("{taximeter}:writer:w1")
    with pytest.raises(redis.ResponseError, match="SUPERSEDED"):
        late.call(Hold(opened("late", 40), [BUDGET]))
    assert standing(raw, BUDGET) == (40, 0)


async def test_it_goes_on_trying_while_the_store_is_away(own_server: Server, tmp_path: Path) -> None:
    store = await writer(own_server, tmp_path)
    await begin(store, "e1")
    await die(store)
    own_server.kill()
    task = asyncio.get_running_loop().create_task(inherit(own_server.url, tmp_path))
    await asyncio.sleep(0.2)
    assert not task.done()
    own_server.start()  # empty: it kept nothing
    assert len(await task) == 1
    with own_server.client() as raw:
        assert (standing(raw, BUDGET), traces(raw)) == ((40, 0), [])


async def test_who_is_interrupted_leaves_the_journal_to_the_next(own_server: Server, tmp_path: Path) -> None:
    store = await writer(own_server, tmp_path)
    await begin(store, "e1")
    await begin(store, "e2")
    store.settle(entry("e2", 7), [BUDGET])
    await applied(store)
    await die(store)
    for _ in range(3):
        own_server.pause()
        task = asyncio.get_running_loop().create_task(inherit(own_server.url, tmp_path))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        own_server.resume()
    await inherit(own_server.url, tmp_path)
    with own_server.client() as raw:
        assert sorted((line["id"], line["cost_nanos"]) for line in ledger(raw)) == [("e1", 40), ("e2", 7)]
        assert (standing(raw, BUDGET), traces(raw)) == ((47, 0), [])


async def test_after_a_crash_of_the_machine_the_store_may_know_more_than_the_journal(
    server: Server, raw: redis.Redis, tmp_path: Path
) -> None:
    """The last of the journal had not reached the disk, but the store on another machine has applied it."""
    store = await writer(server, tmp_path)
    await begin(store, "settled")
    await begin(store, "under way")
    journal = next(tmp_path.glob("w1/*.seg"))
    size = journal.stat().st_size
    store.settle(entry("settled", 7), [BUDGET])
    await applied(store)
    await die(store)
    with journal.open("r+b") as file:
        file.truncate(size)

    presumed = await inherit(server.url, tmp_path)

    assert [each.id for each in presumed] == ["under way"]
    assert {line["id"]: line["cost_nanos"] for line in ledger(raw)} == {"settled": 7, "under way": 40}
    assert standing(raw, BUDGET) == (47, 0)


async def test_a_worker_that_ends_in_order_leaves_nothing(server: Server, raw: redis.Redis, tmp_path: Path) -> None:
    store = await writer(server, tmp_path)
    await begin(store, "e1")
    store.settle(entry("e1", 7), [BUDGET])
    assert await store.close(5) == 0
    assert orphans(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
    assert traces(raw) == []


async def test_a_worker_that_ends_while_the_store_is_away_leaves_its_journal(
    own_server: Server, tmp_path: Path
) -> None:
    store = await writer(own_server, tmp_path)
    await begin(store, "e1")
    own_server.kill()
    await eventually(lambda: not store.is_connected)
    store.settle(entry("e1", 7), [BUDGET])
    assert await store.close(0.1) == 1
    own_server.start()
    assert await inherit(own_server.url, tmp_path) == []
    with own_server.client() as raw:
        assert [line["id"] for line in ledger(raw)] == ["e1"]
        assert (standing(raw, BUDGET), traces(raw)) == ((7, 0), [])
