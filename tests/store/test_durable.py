"""A journal may forget what the store will not lose, and nothing else."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from proxy.journal import Journal
from proxy.store import Store, durable
from tests.store.cases import account, entry, opened
from tests.store.conftest import applied, eventually
from tests.store.servers import KINDS, Server
from tests.system.harness import free_port


@pytest.fixture(params=KINDS)
def durable_server(request: pytest.FixtureRequest, short_path: Path) -> Iterator[Server]:
    """With an append-only file, as production has it."""
    server = Server(request.param, short_path, "--appendonly", "yes", "--appendfsync", "everysec")
    server.start()
    yield server
    server.kill()


async def opened_store(server: Server, journals: Path, writer: str = "w1") -> Store:
    return await Store.open(server.url, writer=writer, timeout=1, journal=Journal.create(journals, writer))


async def ids(store: Store) -> list[str]:
    return [found.id async for found in store.read_ledger()]


async def ride(store: Store, entry_id: str, cost: int = 10) -> None:
    """A request from its hold to its end."""
    budget = account(limit=10**6)
    assert await store.hold(opened(entry_id, 50, budget), [budget]) is None
    assert store.begin([entry_id]) is None
    store.settle(entry(entry_id, cost), [budget])


async def test_what_was_applied_is_confirmed_once_it_is_on_disk(durable_server: Server, tmp_path: Path) -> None:
    store = await opened_store(durable_server, tmp_path)
    for number in range(3):
        await ride(store, f"e{number}")
    await applied(store)
    assert store._pending.counted == 3
    await eventually(lambda: store._pending.durable == 3)
    with durable_server.client() as client:
        assert client.exists("{taximeter}:durable")
    assert await store.close(5) == 0
    assert list(tmp_path.iterdir()) == []
    with durable_server.client() as client:
        assert client.smembers("{taximeter}:writers") == set()
        assert not client.exists("{taximeter}:writer:w1")


async def test_nothing_is_confirmed_while_the_disk_does_not_take_it(durable_server: Server, tmp_path: Path) -> None:
    """A server that never syncs by itself stands for a disk that hangs."""
    with durable_server.client() as client:
        client.config_set("appendfsync", "no")
        client.config_set("no-appendfsync-on-rewrite", "yes")
    store = await opened_store(durable_server, tmp_path)
    store._durability._can_wait = True  # type: ignore[union-attr]
    await ride(store, "e1")
    await applied(store)
    with durable_server.client() as client:
        version = client.info()["redis_version"]
    if not version.startswith("7.0"):
        await asyncio.sleep(0.5)
        assert store._pending.durable == 0
    await store.close(0)
    assert [path.name for path in tmp_path.iterdir()] == ["w1"]


async def test_what_a_store_lost_in_a_crash_is_sent_again(durable_server: Server, tmp_path: Path) -> None:
    with durable_server.client() as client:
        client.config_set("appendfsync", "no")
    store = await opened_store(durable_server, tmp_path)
    await ride(store, "e1")
    await applied(store)
    await eventually(lambda: any(durable_server.directory.glob("appendonlydir/*.incr.aof")))
    log = next(durable_server.directory.glob("appendonlydir/*.incr.aof"))
    for number in range(2, 6):
        await ride(store, f"e{number}")
    await applied(store)
    durable_server.kill()
    content = log.read_bytes()
    log.write_bytes(content[: content.index(b"e3")].rpartition(b"*")[0])  # the disk never got the rest
    durable_server.start()
    await eventually(lambda: store._connection.life == 2)
    await applied(store)
    assert sorted(await ids(store)) == ["e1", "e2", "e3", "e4", "e5"]
    [standing] = await store.read_accounts([account(limit=10**6)])
    assert (standing.spent, standing.held) == (50, 0)
    await store.close(0)


async def test_without_a_file_and_a_replica_one_warning_is_all(
    own_server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = await opened_store(own_server, tmp_path)
    for number in range(3):
        await ride(store, f"e{number}")
        await applied(store)
        await eventually(lambda number=number: store._pending.durable == number + 1)  # type: ignore[misc]
    await store.close(5)
    assert caplog.text.count("keeps no append-only file and has no replica") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
async def pair(own_server: Server, short_path: Path) -> AsyncIterator[tuple[Server, Server]]:
    """A master, and a replica that is connected to it."""
    own_server.kill()
    master = Server(own_server.kind, short_path / "m", port=free_port())
    replica = Server(own_server.kind, short_path / "r", "--replicaof", f"127.0.0.1 {master.port}", port=free_port())
    master.start()
    replica.start()
    with master.client() as client:
        await eventually(lambda: client.info("replication")["connected_slaves"] == 1)
    yield master, replica
    replica.kill()
    master.kill()


async def test_a_replica_that_is_connected_must_have_it(pair: tuple[Server, Server], tmp_path: Path) -> None:
    master, replica = pair
    store = await opened_store(master, tmp_path)
    await ride(store, "e1")
    await eventually(lambda: store._pending.durable == 1)
    replica.pause()
    await ride(store, "e2")
    await applied(store)
    await asyncio.sleep(0.5)
    assert store._pending.durable == 1
    replica.resume()
    await eventually(lambda: store._pending.durable == 2)
    await store.close(5)


async def test_a_replica_that_was_there_is_awaited_for_a_while(
    pair: tuple[Server, Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A failover follows upon the loss of a replica's link: what that one has missed must not be forgotten here."""
    master, replica = pair
    store = await opened_store(master, tmp_path)
    await ride(store, "e1")
    await eventually(lambda: store._pending.durable == 1)
    replica.kill()
    with master.client() as client:
        await eventually(lambda: client.info("replication")["connected_slaves"] == 0)
    await ride(store, "e2")
    await applied(store)
    await asyncio.sleep(0.5)
    assert store._pending.durable == 1
    monkeypatch.setattr(durable, "REPLICA_PATIENCE", 0.1)
    await eventually(lambda: store._pending.durable == 2)
    assert caplog.text.count("has had no replica for") == 1
    await store.close(5)


async def test_a_server_that_cannot_be_asked_is_given_time(
    durable_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "BLIND_WAIT", 0.2)
    store = await opened_store(durable_server, tmp_path)
    assert store._durability is not None
    store._durability._can_wait = False
    await ride(store, "e1")
    await applied(store)
    assert store._pending.durable == 0
    await eventually(lambda: store._pending.durable == 1)
    await store.close(1)
