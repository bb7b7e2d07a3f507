"""Two proxies with two workers each and disks of their own, one store, one upstream, and a cutter between them.

The first proxy talks to upstream and store directly, the second through the cutter.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from tests.chaos.judgement import PREFIX, Line, ledger_of
from tests.chaos.programs import Cutter, Proxy, Upstream
from tests.store.servers import Server
from tests.system.harness import free_port

LookIn = Callable[[], redis.Redis]
"""A client of the store as it is now."""

BUDGETS = (
    {"name": "all", "limit_usd": "100000", "period": "month"},
    {"name": "tuned", "limit_usd": "100000", "period": "total", "fine_tuned": True},
    {"name": "each", "limit_usd": "0.01", "period": "day", "per": "owner", "on_exceed": "alert"},
    # Used up long before the end: nothing passes it without a hold, whatever dies.
    {"name": "tight", "limit_usd": "0.004", "period": "total", "model": "gpt-4.1-nano*", "on_store_loss": "refuse"},
)
SETTINGS: Mapping[str, Any] = {
    "workers": 2,
    "store_timeout_ms": 500,
    "drain_seconds": 4,
    "upstream_timeout_seconds": 5,
    "connect_timeout_seconds": 2,
    "budget": list(BUDGETS),
}


@dataclass
class Town:
    proxies: list[Proxy]
    store: Server
    upstream: Upstream
    cutter: Cutter

    @property
    def store_port(self) -> int:
        """The cutter's, where the store is."""
        return self.cutter.ports[0]

    @property
    def upstream_port(self) -> int:
        return self.cutter.ports[1]

    def run_id(self) -> str:
        """Another one after each start of the store."""
        with self.store.client(socket_timeout=10) as client:
            return str(client.info("server")["run_id"])

    async def quiet(self, seconds: float) -> list[Line]:
        return await quiet(self.proxies, self.store.client, seconds)


async def quiet(proxies: Sequence[Proxy], look_in: LookIn, seconds: float) -> list[Line]:
    """Wait until all is settled, at most so long. The ledger's lines, as they are then."""
    deadline = time.monotonic() + seconds
    last = ""
    while True:
        lines, state = await asyncio.to_thread(_unsettled, look_in)
        for proxy in proxies:
            with suppress(OSError, TimeoutError):
                waiting = (await proxy.scrape()).value("taximeter_spool_entries")
                if waiting:
                    state.append(f"{proxy.directory.name} has {waiting:g} in its spool")
        now = f"{len(lines)} {state}"
        if (not state and now == last) or time.monotonic() > deadline:
            return lines
        last = now
        await asyncio.sleep(1)


def _unsettled(look_in: LookIn) -> tuple[list[Line], list[str]]:
    with look_in() as client:
        held = [key for key in client.scan_iter(f"{PREFIX}held:*") if client.get(key) not in (None, "0")]
        held += [key for key in client.scan_iter(f"{PREFIX}holds:*") if client.hlen(key)]
        return ledger_of(client), held


@asynccontextmanager
async def serving(
    directory: Path, redis_urls: Sequence[str], **settings: Any
) -> AsyncIterator[tuple[Upstream, list[Proxy]]]:
    """An upstream, and a proxy for each URL of the store, all ready. Nothing of them is left, however it went."""
    upstream = Upstream(directory / "upstream")
    proxies = [
        Proxy(directory / f"proxy{number}", upstream.url, **{**SETTINGS, **settings}, redis_url=url)
        for number, url in enumerate(redis_urls)
    ]
    try:
        await upstream.start()
        await asyncio.gather(*(proxy.start() for proxy in proxies))
        yield upstream, proxies
    finally:
        await asyncio.gather(*(program.kill() for program in (*proxies, upstream)))


@contextmanager
def running_store(kind: str = "valkey") -> Iterator[Server]:
    """A server with an append-only file, on a port and a socket."""
    with tempfile.TemporaryDirectory(prefix="tm-") as short:
        # everysec, as in production: what a kill of the process loses is nothing, of the machine a second.
        options = ("--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction")
        store = Server(kind, Path(short), *options, port=free_port())
        try:
            store.start()
            yield store
        finally:
            store.kill()


@asynccontextmanager
async def town(directory: Path, **settings: Any) -> AsyncIterator[Town]:
    """All of it, up and ready. At the end nothing of it is left, however it went."""
    with running_store() as store:
        upstream = Upstream(directory / "upstream")
        cutter = Cutter([store.port, upstream.port])
        wanted = {**SETTINGS, **settings}
        far = {"redis_url": f"redis://127.0.0.1:{cutter.ports[0]}"}
        proxies = [
            Proxy(directory / "one", upstream.url, **wanted, redis_url=store.url),
            Proxy(directory / "two", f"http://127.0.0.1:{cutter.ports[1]}/v1", **wanted, **far),
        ]
        try:
            await cutter.start()
            await upstream.start()
            await asyncio.gather(*(proxy.start() for proxy in proxies))
            yield Town(proxies, store, upstream, cutter)
        finally:
            await asyncio.gather(*(program.kill() for program in (*proxies, upstream)))
            await cutter.stop()
