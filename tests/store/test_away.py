"""A store that dies, stops, forgets, refuses, or whose replies are lost."""

import asyncio
import time
from datetime import timedelta
from pathlib import Path

import pytest
import redis

from proxy.errors import StoreAway, StoreRefused
from proxy.store import Store
from tests.store.cases import TODAY, account, entry, opened
from tests.store.conftest import applied, eventually
from tests.store.cutting import cutting_proxy
from tests.store.servers import Server


async def ids(store: Store) -> list[str]:
    return [found.id async for found in store.read_ledger()]


async def test_charges_wait_for_a_store_that_was_killed(own_server: Server) -> None:
    budget = account(limit=10**6)
    async with await Store.open(own_server.url, writer="w", timeout=1) as store:
        own_server.kill()
        await eventually(lambda: not store.is_connected)
        for number in range(300):
            store.settle(entry(f"e{number}", 10), [budget])
        assert store.waiting == 300
        own_server.start()
        await applied(store)
        assert await ids(store) == [f"e{number}" for number in range(300)]
        assert (await store.read_accounts([budget]))[0].spent == 3000
        assert await store.hold(opened("h", 1), [budget]) is None


async def test_holds_fail_at_once_while_the_store_is_away(own_server: Server) -> None:
    budget = account()
    async with await Store.open(own_server.url, writer="w", timeout=5) as store:
        own_server.kill()
        await eventually(lambda: not store.is_connected)
        started = time.perf_counter()
        for ask in (store.hold(opened("e1", 1), [budget]), store.check([budget]), store.find_key("0" * 64)):
            with pytest.raises(StoreAway, match=r"s\.sock"):
                await ask
        store.hold_later(opened("e2", 1), [budget])
        store.release("e2")
        assert time.perf_counter() - started < 0.2
        with pytest.raises(StoreAway):
            await store.ping()
        with pytest.raises(StoreAway):
            await store.read_accounts([budget])
        own_server.start()


async def test_a_store_that_hangs_costs_the_timeout_once(own_server: Server) -> None:
    budget = account()
    async with await Store.open(own_server.url, writer="w", timeout=0.3) as store:
        own_server.pause()
        started = time.perf_counter()
        answers = await asyncio.gather(
            *(store.hold(opened(f"e{number}", 1), [budget]) for number in range(200)), return_exceptions=True
        )
        assert all(isinstance(answer, StoreAway) for answer in answers)
        assert 0.25 < time.perf_counter() - started < 1.5
        started = time.perf_counter()
        with pytest.raises(StoreAway):
            await store.hold(opened("late", 1), [budget])
        assert time.perf_counter() - started < 0.1
        own_server.resume()
        await eventually(lambda: store.is_connected)
        await applied(store)
        [standing] = await store.read_accounts([budget])
        assert (standing.spent, standing.held) == (0, 0)
        with own_server.client() as client:
            assert not client.exists("{taximeter}:holds:w")


async def test_a_lost_reply_charges_once_and_leaves_no_hold(server: Server, raw: redis.Redis) -> None:
    budget = account(limit=10**6)
    async with cutting_proxy(server.path) as proxy, await Store.open(proxy.url, writer="w", timeout=2) as store:
        for number in range(5):
            proxy.lose_next = 2
            assert await store.hold(opened(f"e{number}", 50), [budget]) is None
            proxy.lose_next = 2
            store.hold_later(opened(f"l{number}", 50), [budget])
            store.settle(entry(f"e{number}", 10), [budget])
            store.settle(entry(f"l{number}", 10), [budget])
            await applied(store)
        assert proxy.lost == 20
    async with await Store.open(server.url, writer="reader", timeout=2) as store:
        [standing] = await store.read_accounts([budget])
        assert (standing.spent, standing.held) == (100, 0)
        assert sorted(await ids(store)) == sorted([f"{kind}{number}" for number in range(5) for kind in "el"])
        rows = await store.read_sums(TODAY, TODAY + timedelta(days=1))
        assert sum(row.requests for row in rows) == 10
    assert not raw.exists("{taximeter}:holds:w")


async def test_connections_cut_at_random_under_load(server: Server, raw: redis.Redis) -> None:
    budget = account(limit=10**9)
    async with cutting_proxy(server.path) as proxy, await Store.open(proxy.url, writer="w", timeout=1) as store:

        async def ride(number: int) -> None:
            await asyncio.sleep(number * 0.001)
            try:
                await store.hold(opened(f"e{number}", 100), [budget])
            except StoreAway:
                store.hold_later(opened(f"e{number}", 100), [budget])
            if number % 3:
                store.settle(entry(f"e{number}", 10), [budget])
            else:
                store.release(f"e{number}")

        async def cut() -> None:
            for _ in range(10):
                await asyncio.sleep(0.03)
                proxy.cut()

        await asyncio.gather(cut(), *(ride(number) for number in range(300)))
        await applied(store)
        assert sorted(await ids(store)) == sorted(f"e{number}" for number in range(300) if number % 3)
        [standing] = await store.read_accounts([budget])
        assert (standing.spent, standing.held) == (2000, 0)
    assert not raw.exists("{taximeter}:holds:w")


async def test_a_call_of_an_older_connection_changes_nothing(store: Store, raw: redis.Redis) -> None:
    from proxy.store.operations import Hold, packed
    from proxy.store.script import SOURCE, Script

    budget = account()
    await store.hold(opened("e1", 10), [budget])
    arguments = Script(None, "w1", "an older token")._arguments  # type: ignore[arg-type]
    with pytest.raises(redis.ResponseError, match="SUPERSEDED"):
        raw.eval(SOURCE.decode(), *arguments, packed([Hold(opened("late", 10), [budget])]))
    assert raw.get("{taximeter}:held:" + budget.key) == "10"


async def test_a_store_that_comes_back_empty_is_gone_on_with(
    own_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    budget = account()
    async with await Store.open(own_server.url, writer="w", timeout=1) as store:
        for number in range(5):
            store.settle(entry(f"e{number}", 10), [budget])
        await applied(store)
        own_server.kill()
        await eventually(lambda: not store.is_connected)
        store.settle(entry("e5", 10), [budget])
        own_server.start()
        await applied(store)
        assert await ids(store) == ["e5"]
        store.settle(entry("e6", 10), [budget])
        await applied(store)
    assert "it has number 0 of 5" in caplog.text


async def test_a_store_that_is_flushed_under_the_connection(own_server: Server) -> None:
    budget = account()
    async with await Store.open(own_server.url, writer="w", timeout=1) as store:
        store.settle(entry("e0", 10), [budget])
        await applied(store)
        with own_server.client() as client:
            client.flushall()
        for number in range(1, 4):
            store.settle(entry(f"e{number}", 10), [budget])
        await applied(store)
        assert await ids(store) == ["e1", "e2", "e3"]


async def test_a_store_that_was_rolled_back(own_server: Server) -> None:
    """As after a failover: the store confirmed more than it has."""
    budget = account()
    async with await Store.open(own_server.url, writer="w", timeout=1) as store:
        for number in range(5):
            store.settle(entry(f"e{number}", 10), [budget])
        await applied(store)
        with own_server.client() as client:
            client.hset("{taximeter}:writer:w", "number", "3")
        for number in range(5, 8):
            store.settle(entry(f"e{number}", 10), [budget])
        await applied(store)
        assert (await ids(store))[5:] == ["e5", "e6", "e7"]
        with own_server.client() as client:
            assert client.hget("{taximeter}:writer:w", "number") == "8"


async def test_a_full_store_is_away_until_it_has_room(own_server: Server) -> None:
    budget = account()
    async with await Store.open(own_server.url, writer="w", timeout=1) as store:
        with own_server.client() as client:
            client.config_set("maxmemory", "1")
            with pytest.raises(StoreAway):
                await store.hold(opened("e1", 10), [budget])
            store.settle(entry("e2", 10), [budget])
            await asyncio.sleep(0.2)
            assert store.waiting == 1
            client.config_set("maxmemory", "0")
            await applied(store)
            assert await ids(store) == ["e2"]
            assert client.get("{taximeter}:held:" + budget.key) == "0"


async def test_a_replica_is_away(own_server: Server) -> None:
    async with await Store.open(own_server.url, writer="w", timeout=1) as store:
        with own_server.client() as client:
            client.config_set("replica-serve-stale-data", "yes")
            client.replicaof("127.0.0.1", "1")
            with pytest.raises(StoreAway):
                await store.hold(opened("e1", 10), [account()])
            client.replicaof("NO", "ONE")
        await eventually(lambda: store.is_connected)


async def test_a_store_that_is_not_there(short_path: Path) -> None:
    url = f"redis://someone:secret@127.0.0.1:{1}/0"
    with pytest.raises(StoreAway) as away:
        await Store.open(url, writer="w", timeout=1)
    assert "127.0.0.1:1" in str(away.value)
    assert "secret" not in str(away.value)
    with pytest.raises(StoreAway):
        await Store.open(f"unix://{short_path}/none.sock", writer="w", timeout=1)


async def test_a_store_that_need_not_answer_at_first(own_server: Server) -> None:
    own_server.kill()
    async with await Store.open(own_server.url, writer="w", timeout=1, must_answer=False) as store:
        with pytest.raises(StoreAway):
            await store.hold(opened("e1", 10), [account()])
        store.settle(entry("e1", 10), [account()])
        own_server.start()
        await applied(store)
        assert await ids(store) == ["e1"]


async def test_closing_while_away_says_what_was_not_applied(own_server: Server) -> None:
    store = await Store.open(own_server.url, writer="w", timeout=1)
    own_server.kill()
    await eventually(lambda: not store.is_connected)
    for number in range(3):
        store.settle(entry(f"e{number}", 10), [account()])
    started = time.perf_counter()
    assert await store.close(0.2) == 3
    assert time.perf_counter() - started < 2


async def test_closing_sends_what_is_pending(server: Server) -> None:
    store = await Store.open(server.url, writer="w", timeout=1)
    for number in range(500):
        store.settle(entry(f"e{number}", 10), [account()])
    assert await store.close(10) == 0
    async with await Store.open(server.url, writer="reader", timeout=1) as reader:
        assert len(await ids(reader)) == 500


async def test_who_waits_when_the_store_is_closed_is_told(own_server: Server) -> None:
    store = await Store.open(own_server.url, writer="w", timeout=5)
    own_server.pause()
    waiting = asyncio.get_running_loop().create_task(store.hold(opened("e1", 10), [account()]))
    await asyncio.sleep(0.05)
    await store.close(0.05)
    with pytest.raises(StoreAway):
        await waiting
    own_server.resume()


@pytest.mark.parametrize("kind", ["valkey", "redis"])
async def test_a_wrong_password_is_refused_and_not_repeated(kind: str, short_path: Path) -> None:
    server = Server(kind, short_path, "--requirepass", "right")
    server.start()
    try:
        for login in ("", ":wrong-secret@", "default:wrong-secret@"):
            with pytest.raises(StoreRefused) as refused:
                await Store.open(f"unix://{login}{server.path}", writer="w", timeout=1, must_answer=False)
            assert "secret" not in str(refused.value)
            assert "\n" not in str(refused.value)
        async with await Store.open(f"unix://:right@{server.path}", writer="w", timeout=1) as store:
            assert await store.ping()
    finally:
        server.kill()


async def test_a_server_that_evicts_is_refused(own_server: Server) -> None:
    with own_server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(StoreRefused, match="maxmemory-policy is allkeys-lru"):
        await Store.open(own_server.url, writer="w", timeout=1)


async def test_a_user_who_may_not_ask_for_info_only_warns(own_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    with own_server.client() as client:
        client.acl_setuser(
            "meter", enabled=True, passwords=["+pw"], keys=["{taximeter}:*"], commands=["+@all", "-info"]
        )
    url = f"unix://meter:pw@{own_server.path}"
    async with await Store.open(url, writer="w", timeout=1) as store:
        assert await store.hold(opened("e1", 1), [account()]) is None
    assert "stay unchecked" in caplog.text


async def test_a_user_who_may_not_run_scripts_is_refused_for_good(own_server: Server) -> None:
    with own_server.client() as client:
        client.acl_setuser("meter", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@all", "-evalsha"])
    async with await Store.open(f"unix://meter:pw@{own_server.path}", writer="w", timeout=1) as store:
        with pytest.raises(StoreAway):
            await store.hold(opened("e1", 1), [account()])
        await eventually(lambda: not store.is_connected)
        with own_server.client() as client:
            client.acl_setuser("meter", enabled=True, commands=["+evalsha"])
        store.settle(entry("e1", 10), [account()])
        await applied(store)


async def test_something_that_is_no_redis_is_refused() -> None:
    async def speak_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(speak_http, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    try:
        with pytest.raises(StoreRefused, match="no Redis"):
            await Store.open(f"redis://127.0.0.1:{port}", writer="w", timeout=1)
    finally:
        listener.close()
        await asyncio.sleep(0.05)


async def test_a_failing_script_stops_only_the_operation_that_makes_it_fail(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole call fails, as if the server had found a fault in the script."""
    from proxy.store.script import Script

    honest = Script.call
    faulty = b"*3\r\n$4\r\nEVAL\r\n$16\r\nerror('a fault')\r\n$1\r\n0\r\n"

    def failing(self: Script, operations: bytes) -> bytes:
        is_one_skipped = operations.startswith(b"\x91\x94\x05")  # [[5, before, number, charge]]
        return faulty if b"poison" in operations and not is_one_skipped else honest(self, operations)

    monkeypatch.setattr(Script, "call", failing)
    async with await Store.open(server.url, writer="w", timeout=2) as store:
        for number in range(10):
            store.settle(entry("poison" if number == 4 else f"e{number}", 10), [account()])
        await applied(store)
        assert await ids(store) == [f"e{number}" for number in range(10) if number != 4]
        assert [found.id for found in store._pending.set_aside] == ["poison"]
        assert await store.hold(opened("h", 1), [account()]) is None
