"""Sentinel promotes a replica that has missed writes; a cluster's master dies, and its slot moves: nothing is lost."""

import asyncio
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from tests.chaos.crowd import Crowd
from tests.chaos.judgement import PREFIX, Truth, judge, out_of_balance
from tests.chaos.programs import Proxy
from tests.chaos.town import LookIn, quiet, serving
from tests.store.servers import KINDS, Server, binary_of
from tests.system.harness import free_port

SECONDS = 14
BEFORE = 4  # seconds of traffic before the fault
NAME = "main"
DOWN_AFTER = 3000  # milliseconds
MISSED = 5  # lines of the ledger; written in half that time, or the sentinels give the replica up
OPTIONS = ("--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction")
OUR_SLOT = key_slot(f"{PREFIX}ledger".encode())


async def until(is_so: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with suppress(redis.RedisError):
            if await asyncio.to_thread(is_so):
                return
        assert time.monotonic() < deadline, "it does not come about"
        await asyncio.sleep(0.05)


async def weather(
    directory: Path, url: str, fault: Callable[[], Awaitable[None]], look_in: LookIn, seconds: float = SECONDS
) -> None:
    """Traffic of two proxies, the fault in the middle of it; then the books must be whole."""
    async with serving(directory, [url, url]) as (upstream, proxies):
        crowd = Crowd([proxy.port for proxy in proxies], seed=7, clients=24, think_seconds=0.2)
        async with asyncio.TaskGroup() as group:
            group.create_task(crowd.run(seconds))
            await asyncio.sleep(BEFORE)
            await fault()
        lines = await quiet(proxies, look_in, 60)
        verdict = judge(Truth.of(upstream.books), lines)
        print(f"{verdict.requests} requests, {verdict.statuses}, clients saw {crowd.outcomes}")
        assert verdict.requests > 100
        assert not verdict.findings, logs(proxies)
        with look_in() as look:
            assert not out_of_balance(look, lines), logs(proxies)
        for proxy in proxies:
            assert await proxy.stop() == 0, logs(proxies)
            assert "Traceback" not in proxy.log()


def logs(proxies: list[Proxy]) -> str:
    return "\n".join(proxy.log()[-3000:] for proxy in proxies)


@asynccontextmanager
async def sentinels(kind: str, directory: Path, master: int, number: int = 3) -> AsyncIterator[list[int]]:
    """The ports of so many sentinels, who know each other and the replica."""
    ports = [free_port() for _ in range(number)]
    running: list[subprocess.Popen[bytes]] = []
    try:
        for port in ports:
            configuration = directory / f"sentinel-{port}.conf"
            configuration.write_text(
                f"port {port}\nbind 127.0.0.1\nprotected-mode no\ndir {directory}\n"
                f"sentinel monitor {NAME} 127.0.0.1 {master} 2\n"
                f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER}\nsentinel failover-timeout {NAME} 4000\n"
            )
            command = [binary_of(kind), str(configuration), "--sentinel"]
            running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        for port in ports:
            await until(partial(_knows, port, others=number - 1))
        yield ports
    finally:
        for process in running:
            process.kill()
            process.wait()


def _knows(port: int, others: int) -> bool:
    with redis.Redis(port=port) as asked:
        sentinels, replicas = asked.sentinel_sentinels(NAME), asked.sentinel_slaves(NAME)
        return len(sentinels) == others and len(replicas) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
async def test_what_a_promoted_replica_has_missed_is_sent_again(kind: str, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="tm-") as short:
        first = Server(kind, Path(short) / "1", *OPTIONS, "--repl-diskless-sync-delay", "0", port=free_port())
        replica_of = ("--replicaof", "127.0.0.1", str(first.port))
        second = Server(kind, Path(short) / "2", *OPTIONS, *replica_of, port=free_port())
        missed = 0

        async def fault() -> None:
            """The replica stands still and loses its master's stream; a moment later the master dies."""
            nonlocal missed
            with first.client() as master:
                second.pause()
                master.client_kill_filter(_type="replica")
                at_first = master.xlen(f"{PREFIX}ledger")
                await until(lambda: master.xlen(f"{PREFIX}ledger") >= at_first + MISSED, DOWN_AFTER / 2000)
                written = master.xlen(f"{PREFIX}ledger")
            await asyncio.to_thread(first.kill)
            second.resume()
            with second.client() as replica:
                missed = written - replica.xlen(f"{PREFIX}ledger")
                await until(lambda: replica.info("replication")["role"] == "master")

        try:
            await asyncio.to_thread(first.start)
            await asyncio.to_thread(second.start)
            with second.client() as replica:
                await until(lambda: replica.info("replication").get("master_link_status") == "up")
            async with sentinels(kind, Path(short), first.port) as ports:
                seeds = ",".join(f"127.0.0.1:{port}" for port in ports)
                await weather(tmp_path, f"redis+sentinel://{seeds}/{NAME}/0", fault, second.client)
            print(f"the promoted replica had missed {missed} lines of the ledger")
            assert missed >= MISSED, "this run proves nothing"
        finally:
            first.kill()
            second.kill()


@asynccontextmanager
async def cluster(kind: str, directory: Path, masters: int = 3) -> AsyncIterator[list[Server]]:
    """Masters that share the slots evenly."""
    nodes = []
    try:
        for number in range(masters):
            bus = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--cluster-node-timeout", "3000")
            nodes.append(Server(kind, directory / str(number), *OPTIONS, *bus, port=free_port()))
            await asyncio.to_thread(nodes[-1].start)
        for number, node in enumerate(nodes):
            with node.client() as client:
                first, last = 16384 * number // masters, 16384 * (number + 1) // masters - 1
                client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
                for other in nodes[:number]:
                    with other.client() as known:
                        bus_port = known.config_get("cluster-port")["cluster-port"]
                    client.execute_command("CLUSTER MEET", "127.0.0.1", other.port, bus_port)
        await asyncio.gather(*(until(partial(_is_whole, node, masters)) for node in nodes))
        yield nodes
    finally:
        for node in nodes:
            node.kill()


def _is_whole(node: Server, masters: int) -> bool:
    with node.client() as client:
        info: Any = client.execute_command("CLUSTER INFO")
        return info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) == masters


def move(slot: int, source: Server, target: Server, batch: int = 5) -> None:
    """A slot with its keys, as `redis-cli --cluster reshard` does it: key by key, while both go on serving."""
    with source.client() as here, target.client() as there:
        here_id, there_id = (client.execute_command("CLUSTER MYID") for client in (here, there))
        there.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", here_id)
        here.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", there_id)
        while names := here.execute_command("CLUSTER GETKEYSINSLOT", slot, batch):
            here.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *names)
            time.sleep(0.02)
        there.execute_command("CLUSTER SETSLOT", slot, "NODE", there_id)
        here.execute_command("CLUSTER SETSLOT", slot, "NODE", there_id)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
async def test_a_cluster_of_three_whose_master_dies_and_whose_slot_moves(kind: str, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="tm-") as short:
        async with cluster(kind, Path(short)) as nodes:
            ours = OUR_SLOT * len(nodes) // 16384
            other = nodes[(ours + 1) % len(nodes)]

            async def fault() -> None:
                await asyncio.to_thread(nodes[ours].kill)
                await asyncio.sleep(1)
                await asyncio.to_thread(nodes[ours].start)
                await until(lambda: _is_whole(nodes[ours], len(nodes)))
                await asyncio.sleep(3)
                await asyncio.to_thread(move, OUR_SLOT, nodes[ours], other)

            seeds = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
            await weather(tmp_path, f"redis+cluster://{seeds}", fault, other.client, seconds=20)
            with nodes[ours].client() as left:
                assert left.execute_command("CLUSTER COUNTKEYSINSLOT", OUR_SLOT) == 0
