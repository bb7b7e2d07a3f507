"""What a writer journals before a request is sent, and what a new connection mends."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis

from proxy.errors import JournalFailed, StoreAway
from proxy.journal import Journal, adopt
from proxy.store import Store, unkept
from tests.store.calling import standing
from tests.store.cases import account, entry, opened
from tests.store.conftest import applied, eventually
from tests.store.servers import Server

BUDGET = account(limit=100)


@pytest.fixture
async def writer(own_server: Server, tmp_path: Path) -> AsyncIterator[Store]:
    store = await Store.open(own_server.url, writer="w1", timeout=0.5, journal=Journal.create(tmp_path, "w1"))
    yield store
    await store.close(0)


def on_disk(store: Store) -> bool:
    journal = store._journal
    assert journal is not None
    return journal._on_disk == journal._appended


async def open_in(store: Store, journals: Path) -> dict[str, bytes]:
    """What the next one would find open."""
    assert store._journal is not None
    store._journal.close(remove=False)
    adopted = adopt(journals / "w1")
    assert adopted is not None
    adopted.journal.close(remove=False)
    return adopted.open


async def test_with_its_hold_in_the_store_a_request_waits_for_no_disk(writer: Store, tmp_path: Path) -> None:
    assert await writer.hold(opened("e1", 40), [BUDGET]) is None
    assert writer.begin(["e1"]) is None
    assert await open_in(writer, tmp_path) == {"e1": writer._pending.live["e1"].record.encode()}


async def test_with_its_hold_under_way_nothing_is_waited_for(writer: Store) -> None:
    writer.hold_later(opened("e1", 40), [BUDGET])
    assert writer.begin(["e1"]) is None
    await applied(writer)
    await asyncio.sleep(0.1)
    assert not on_disk(writer)  # the store has it: that is enough


async def test_who_was_just_sent_brings_nothing_to_the_disk(writer: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unkept, "KEPT_WITHIN", 0.3)
    until = asyncio.get_running_loop().time() + 0.7
    sent = 0
    while asyncio.get_running_loop().time() < until:  # at each look there is one that the store does not have yet
        writer.hold_later(opened(f"e{sent}", 0), [BUDGET])
        assert writer.begin([f"e{sent}"]) is None
        sent += 1
        await asyncio.sleep(0.0005)
    await asyncio.sleep(0.1)
    assert writer._journal is not None
    assert writer._journal._on_disk == 0


async def test_what_the_store_does_not_have_soon_the_disk_has(own_server: Server, writer: Store) -> None:
    own_server.pause()
    for entry_id in ("e1", "e2"):
        writer.hold_later(opened(entry_id, 40), [BUDGET])
        assert writer.begin([entry_id]) is None
    assert not on_disk(writer)
    await eventually(lambda: on_disk(writer), 0.4)
    own_server.resume()


async def test_with_the_store_away_a_request_waits_for_the_disk(own_server: Server, writer: Store) -> None:
    own_server.kill()
    await eventually(lambda: not writer.is_connected)
    with pytest.raises(StoreAway):
        await writer.hold(opened("e1", 40), [BUDGET])
    writer.hold_later(opened("e1", 40), [BUDGET])
    waiting = writer.begin(["e1"])
    assert waiting is not None
    await waiting
    assert on_disk(writer)


async def test_a_request_that_was_not_sent_leaves_nothing(own_server: Server, writer: Store, tmp_path: Path) -> None:
    for entry_id in ("opened", "only held"):
        assert await writer.hold(opened(entry_id, 40), [BUDGET]) is None
    assert writer.begin(["opened"]) is None
    for entry_id in ("opened", "only held"):
        writer.release(entry_id)
    await applied(writer)
    assert await open_in(writer, tmp_path) == {}
    with own_server.client() as raw:
        assert standing(raw, BUDGET) == (0, 0)


async def test_a_request_that_was_refused_is_not_held_later(own_server: Server, writer: Store) -> None:
    assert await writer.hold(opened("e1", 101), [BUDGET]) is not None
    assert writer._pending.live == {}
    with own_server.client() as raw:
        raw.delete("{taximeter}:writer:w1")  # its token is gone: a new connection
        assert await writer.hold(opened("e2", 60), [BUDGET]) is None
        assert raw.hkeys("{taximeter}:holds:w1") == ["e2"]


async def test_what_is_under_way_is_held_again_beyond_any_limit_and_strangers_are_dropped(
    own_server: Server, writer: Store
) -> None:
    for entry_id in ("one", "two"):
        assert await writer.hold(opened(entry_id, 40), [BUDGET]) is None
        assert writer.begin([entry_id]) is None
    with own_server.client() as raw:
        token = raw.hget("{taximeter}:writer:w1", "token")
        raw.hset("{taximeter}:writer:w1", "token", "somebody who took our place")
        hold = raw.hget("{taximeter}:holds:w1", "two")
        raw.hdel("{taximeter}:holds:w1", "two")  # as after a failover
        raw.hset("{taximeter}:holds:w1", "stranger", str(hold))
        writer.settle(entry("one", 70), [BUDGET])
        await applied(writer)
        assert raw.hget("{taximeter}:writer:w1", "token") != token
        assert raw.hkeys("{taximeter}:holds:w1") == ["two"]
        assert standing(raw, BUDGET) == (110, 40)


async def test_a_store_that_hangs_holds_what_passes_without_it_once_it_is_back(
    own_server: Server, writer: Store
) -> None:
    own_server.pause()
    with pytest.raises(StoreAway):
        await writer.hold(opened("e1", 40), [BUDGET])
    writer.hold_later(opened("e1", 40), [BUDGET])  # on_store_loss = "allow"
    begun = writer.begin(["e1"])
    if begun is not None:
        await begun
    own_server.resume()
    with own_server.client() as raw:
        await eventually(lambda: bool(raw.hexists("{taximeter}:holds:w1", "e1")))
        await asyncio.sleep(0)
        assert standing(raw, BUDGET) == (40, 40)


async def test_a_journal_that_cannot_be_written_lets_nothing_be_sent(
    own_server: Server, writer: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await writer.hold(opened("e1", 40), [BUDGET]) is None

    def full(*_: object) -> None:
        raise JournalFailed("the disk is full")

    monkeypatch.setattr(writer._journal, "open", full)
    with pytest.raises(JournalFailed):
        writer.begin(["e1"])
    writer.release("e1")
    await applied(writer)
    with own_server.client() as raw:
        assert standing(raw, BUDGET) == (0, 0)
        found: redis.Redis = raw
        assert not found.exists("{taximeter}:ledger")
