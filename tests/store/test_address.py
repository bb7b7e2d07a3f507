"""Where a URL leads: plain, socket, TLS, Sentinel, Cluster."""

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
import redis
from redis.exceptions import TryAgainError

from proxy.errors import StoreAway, StoreRefused
from proxy.ledger.entry import Moved
from proxy.store import Store, keys
from proxy.store.address import Address
from proxy.store.ledger import Ledger
from proxy.store.ledger_reprice import Repricer, current_entries
from proxy.store.ledger_trim import trim
from proxy.store.verify import verify
from tests.store.calling import Caller, charge, standing
from tests.store.cases import AT, account, entry, opened
from tests.store.conftest import applied, eventually
from tests.store.reading import open_reads
from tests.store.servers import KINDS, Server, binary_of
from tests.system.harness import free_port


async def kwargs(url: str) -> dict[str, object]:
    connection = await Address(url).connection(1)
    names = ("host", "port", "path", "db", "username", "password")
    found = {name: getattr(connection, name, None) for name in names}
    return {name: value for name, value in found.items() if value is not None}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://localhost", {"host": "localhost", "port": 6379, "db": 0}),
        ("redis://h:1/3", {"host": "h", "port": 1, "db": 3}),
        ("redis://[::1]:7/0", {"host": "::1", "port": 7, "db": 0}),
        ("rediss://u:p%40s@h/2", {"host": "h", "port": 6379, "db": 2, "username": "u", "password": "p@s"}),
        ("redis://:pw@h", {"host": "h", "port": 6379, "db": 0, "password": "pw"}),
        ("unix:///run/a%20b.sock", {"path": "/run/a b.sock", "db": 0}),
        ("unix://u:p@/run/x.sock?db=2", {"path": "/run/x.sock", "db": 2, "username": "u", "password": "p"}),
        ("redis+cluster://a:1,b:2", {"host": "a", "port": 1, "db": 0}),
        ("redis://h?socket_timeout=9&decode_responses=yes", {"host": "h", "port": 6379, "db": 0}),
    ],
)
async def test_what_a_url_says(url: str, expected: dict[str, object]) -> None:
    assert await kwargs(url) == expected


@pytest.mark.parametrize(
    "url", ["http://h", "redis+cluster://h/1", "redis://h:99999", "redis://h?nonsense=1", "h:6379"]
)
async def test_urls_that_cannot_be(url: str) -> None:
    with pytest.raises(StoreRefused):
        await Address(url).connection(1)


async def test_no_password_is_ever_shown() -> None:
    for url in ("redis://u:secret@h", "redis+sentinel://:secret@a,b/m?sentinel_password=secret", "unix://:secret@/x"):
        assert "secret" not in Address(url).shown


async def test_seeds_are_tried_in_turn() -> None:
    address = Address("redis+cluster://a:1,b:2")
    hosts = []
    for _ in range(3):
        connection = await address.connection(1)
        hosts.append(getattr(connection, "host", None))
        address.failed()
    assert hosts == ["a", "b", "a"]
    address.moved("c", 3)
    assert getattr(await address.connection(1), "host", None) == "c"
    address.moved("", 4)
    assert vars(await address.connection(1))["port"] == 4
    assert vars(await address.connection(1))["host"] == "c"


@pytest.fixture(params=KINDS)
def cluster(request: pytest.FixtureRequest, short_path: Path) -> Iterator[list[Server]]:
    """Two masters; all of our slots are on the second."""
    nodes = []
    try:
        for number in range(2):
            node = Server(
                request.param,
                short_path / str(number),
                *("--cluster-enabled", "yes", "--cluster-port", str(free_port())),
                port=free_port(),
            )
            node.start()
            nodes.append(node)
        with nodes[0].client() as first, nodes[1].client() as second:
            second.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            bus = second.config_get("cluster-port")["cluster-port"]
            first.execute_command("CLUSTER MEET", "127.0.0.1", nodes[1].port, bus)
            for client in (first, second):
                for _ in range(1000):
                    if client.execute_command("CLUSTER INFO")["cluster_state"] == "ok":
                        break
                    import time

                    time.sleep(0.01)
                else:
                    pytest.fail("the cluster does not come up")
        yield nodes
    finally:
        for node in nodes:
            node.kill()


async def test_a_cluster_is_followed_to_where_the_keys_are(cluster: list[Server]) -> None:
    seeds = ",".join(f"127.0.0.1:{node.port}" for node in cluster)
    async with await Store.open(f"redis+cluster://{seeds}", writer="w", timeout=2) as store:
        each = account(owner="acme")
        assert await store.hold(opened("e1", 10), [each]) is None
        store.settle(entry("e1", 7), [each, account("b2")])
        await applied(store)
        assert [(found.spent, found.held) for found in await store.read_accounts([each, account("b2")])] == [
            (7, 0),
            (7, 0),
        ]
        assert await store.owners_of(each.budget, each.period) == ["acme"]


def test_while_a_cluster_moves_the_slot_nothing_is_rejected_for_good(cluster: list[Server]) -> None:
    """Also where all the keys that the script declares are still there: a new account is not."""
    with cluster[0].client() as there, cluster[1].client() as here:
        caller = Caller(here)
        for name in (keys.holds("w"), keys.presumed("w")):
            here.hset(name, "other", "")
        for name in (keys.LEDGER, keys.ASIDE):
            here.xadd(name, {"e": "{}"})
        here.zadd(keys.PARKED, {"other": 1})
        here.sadd(keys.WRITERS, "w")
        slot = here.execute_command("CLUSTER KEYSLOT", keys.LEDGER)
        here.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", there.execute_command("CLUSTER MYID"))
        with pytest.raises(TryAgainError, match="non local key"):
            caller.call(charge(1, "e1", 5, [account()]))
        assert here.xlen(keys.LEDGER) == 1
        here.execute_command("CLUSTER SETSLOT", slot, "STABLE")
        assert caller.call(charge(1, "e1", 5, [account()])) == [0]
        assert standing(here, account()) == (5, 0)


async def test_a_cluster_opens_at_once_from_any_seed(cluster: list[Server]) -> None:
    async with await Store.open(f"redis+cluster://127.0.0.1:{cluster[0].port}", writer="w", timeout=2) as store:
        assert await store.hold(opened("e1", 10), [account()]) is None
        assert await store.list_keys() == []


async def test_the_ledger_of_a_cluster_is_repriced_trimmed_and_verified(cluster: list[Server]) -> None:
    url = f"redis+cluster://127.0.0.1:{cluster[0].port}"
    each = account(owner="acme")
    async with await Store.open(url, writer="w", timeout=2) as store, open_reads(url) as reads:
        for number in range(5):
            moved = (Moved(each.budget.name, each.key, 7),)
            store.settle(entry(f"e{number}", 7, moved=moved), [each])
        await applied(store)
        repricer = Repricer(reads)
        await repricer.begin({"action": "reprice"})
        async for entries in current_entries(Ledger(reads), AT - timedelta(days=1), None):
            again = (Moved(each.budget.name, each.key, 9),)
            changes = [(old, msgspec.structs.replace(old, cost_nanos=9, moved=again)) for old in entries]
            assert await repricer.apply(changes) == [True] * 5
        await repricer.end({"action": "reprice done"})
        assert await trim(reads, keep=timedelta(days=1), most=4) == 11
        assert (await verify(reads)).difference is None
        assert [found.spent for found in await store.read_accounts([each])] == [45]


async def test_a_plain_url_to_a_cluster_is_refused_with_the_mend(cluster: list[Server]) -> None:
    with pytest.raises(StoreRefused, match=r"redis\+cluster://"):
        await Store.open(f"redis://127.0.0.1:{cluster[0].port}", writer="w", timeout=2)


@contextlib.asynccontextmanager
async def sentinel(kind: str, directory: Path, master: int) -> AsyncIterator[int]:
    port = free_port()
    configuration = directory / "sentinel.conf"
    configuration.write_text(
        f"port {port}\nbind 127.0.0.1\nprotected-mode no\ndir {directory}\n"
        f"sentinel monitor main 127.0.0.1 {master} 1\n"
        "sentinel down-after-milliseconds main 300\nsentinel failover-timeout main 2000\n"
    )
    process = subprocess.Popen(
        [binary_of(kind), str(configuration), "--sentinel"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with redis.Redis(port=port) as client:
            for _ in range(500):
                with contextlib.suppress(redis.RedisError):
                    client.ping()
                    break
                await asyncio.sleep(0.01)
        yield port
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("kind", KINDS)
async def test_sentinel_leads_to_the_master_also_after_a_failover(kind: str, short_path: Path) -> None:
    first = Server(kind, short_path / "1", "--repl-diskless-sync-delay", "0", port=free_port())
    second = Server(kind, short_path / "2", "--replicaof", "127.0.0.1", str(first.port), port=free_port())
    budget = account()
    try:
        first.start()
        second.start()
        with second.client() as replica:
            await eventually(lambda: replica.info("replication").get("master_link_status") == "up")
        async with sentinel(kind, short_path, first.port) as port:
            with redis.Redis(port=port, decode_responses=True) as asked:
                await eventually(lambda: len(asked.execute_command("SENTINEL REPLICAS", "main")) == 1)
            url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{port}/main/0"
            async with await Store.open(url, writer="w", timeout=0.5, must_answer=False) as store:
                await eventually(lambda: store.is_connected)
                store.settle(entry("e1", 10), [budget])
                await applied(store)
                with second.client() as replica:
                    await eventually(lambda: replica.xlen("{taximeter}:ledger") == 1)
                first.kill()
                store.settle(entry("e2", 10), [budget])
                async with asyncio.timeout(30):
                    while store.waiting:
                        await asyncio.sleep(0.05)
                with second.client() as promoted:
                    assert promoted.xlen("{taximeter}:ledger") == 2
                    assert promoted.get("{taximeter}:committed:" + budget.key) == "20"
    finally:
        first.kill()
        second.kill()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_sentinel_that_knows_no_such_master(kind: str, short_path: Path) -> None:
    async with sentinel(kind, short_path, 1) as port:
        with pytest.raises(StoreAway, match="knows no master 'other'"):
            await Store.open(f"redis+sentinel://127.0.0.1:{port}/other", writer="w", timeout=1)


@contextlib.contextmanager
def tls_server(directory: Path, *options: str) -> Iterator[tuple[Server, int, Path]]:
    """A server that speaks TLS on a port, which it shares with its sentinels and its cluster, and the certificate."""
    key, certificate = directory / "key.pem", directory / "cert.pem"
    made = subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-days", "1", "-keyout", str(key), "-out", str(certificate), "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ],
        capture_output=True,
    )
    assert made.returncode == 0, made.stderr
    port = free_port()
    tls = ("--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key))
    server = Server(
        "redis", directory, *tls, *("--tls-ca-cert-file", str(certificate), "--tls-auth-clients", "no"), *options
    )
    server.start()
    try:
        yield server, port, certificate
    finally:
        server.kill()


async def holds_over(url: str) -> None:
    async with await Store.open(url, writer="w", timeout=2) as store:
        assert await store.hold(opened("e1", 1), [account()]) is None


async def test_tls(short_path: Path) -> None:
    with tls_server(short_path) as (_, port, certificate):
        await holds_over(f"rediss://localhost:{port}/0?ssl_ca_certs={certificate}")
        with pytest.raises(StoreAway):
            await Store.open(f"rediss://localhost:{port}/0", writer="w", timeout=2)


async def test_a_cluster_over_tls(short_path: Path) -> None:
    options = ("--cluster-enabled", "yes", "--tls-cluster", "yes", "--cluster-port", str(free_port()))
    with tls_server(short_path, *options) as (server, port, certificate):
        with server.client() as client:
            client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            await eventually(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
        await holds_over(f"rediss+cluster://localhost:{port}?ssl_ca_certs={certificate}")


async def test_a_sentinel_over_tls(short_path: Path) -> None:
    with tls_server(short_path) as (_, port, certificate):
        asked = free_port()
        watch = short_path / "sentinel.conf"
        watch.write_text(
            f"port 0\ntls-port {asked}\nbind 127.0.0.1\nprotected-mode no\ndir {short_path}\n"
            f"tls-cert-file {certificate}\ntls-key-file {short_path / 'key.pem'}\ntls-ca-cert-file {certificate}\n"
            f"tls-auth-clients no\ntls-replication yes\nsentinel monitor main 127.0.0.1 {port} 1\n"
        )
        process = subprocess.Popen(
            [binary_of("redis"), str(watch), "--sentinel"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            url = f"rediss+sentinel://127.0.0.1:{asked}/main/0?ssl_ca_certs={certificate}"
            async with await Store.open(url, writer="w", timeout=2, must_answer=False) as store:
                await eventually(lambda: store.is_connected)
            await holds_over(url)
            with pytest.raises(StoreAway):
                await Store.open(url.replace("rediss", "redis"), writer="w", timeout=2)
        finally:
            process.kill()
            process.wait()
