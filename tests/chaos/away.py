"""Steady traffic while the store is stopped or dead: how long requests take, and whether a last byte ever waits.

`python -m tests.chaos.away` prints the figures; the tests hold them to bounds that a busy machine can keep.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.crowd import Line
from tests.chaos.judgement import Truth, judge, out_of_balance
from tests.chaos.town import quiet, running_store, serving
from tests.store.servers import Server
from tests.system.harness import chat

STORE_TIMEOUT = 1.0  # seconds
EVERY = 0.05  # a request each, whole and streamed in turn, come what may
STREAM_GAP = 0.15  # seconds between a stream's six chunks


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as its client saw it; times are of the machine's monotonic clock, in seconds."""

    request_id: str
    stream: bool
    status: int
    sent: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.sent


@dataclass(slots=True)
class Away:
    """What happened. `gone` and `back`: when the store went and came; `late`: seconds from the upstream's last byte to

    the client's, of requests that ended while it was away.
    """

    seen: list[Seen]
    gone: float
    back: float
    late: list[float]
    connections: int
    """Attempts to connect that the store found waiting or got within two seconds of its return."""
    findings: list[str]
    before: list[float] = field(default_factory=list)
    during: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        whole = [each for each in self.seen if not each.stream]
        self.before = sorted(each.seconds for each in whole if each.ended < self.gone)
        self.during = sorted(each.seconds for each in whole if self.gone <= each.sent and each.ended < self.back)

    def text(self) -> str:
        def ms(values: Iterable[float]) -> str:
            cuts = statistics.quantiles(values, n=100)
            return f"p50 {cuts[49] * 1000:.1f} p99 {cuts[98] * 1000:.1f} most {max(values) * 1000:.1f} ms"

        return "\n".join(
            (
                f"store away for {self.back - self.gone:.1f} s, store_timeout_ms {STORE_TIMEOUT * 1000:g}",
                f"whole requests before: n {len(self.before)} {ms(self.before)}",
                f"whole requests during: n {len(self.during)} {ms(self.during)}",
                f"last byte after the upstream's, during: n {len(self.late)} {ms(self.late)}",
                f"connection attempts at its return: {self.connections}",
                *(f"FINDING {finding}" for finding in self.findings),
            )
        )


async def stopped(store: Server, seconds: float) -> float:
    """SIGSTOP. Returns when it was over."""
    os.kill(store.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        os.kill(store.pid, signal.SIGCONT)
    return time.monotonic()


async def killed(store: Server, seconds: float) -> float:
    """SIGKILL, and another one on the same files. Returns when that is about to come up."""
    await asyncio.to_thread(store.kill)
    await asyncio.sleep(seconds)
    back = time.monotonic()
    await asyncio.to_thread(store.start)
    return back


async def away(
    directory: Path, fault: Callable[[Server, float], Awaitable[float]], seconds: float, calm: float = 6
) -> Away:
    """Traffic; after `calm` seconds the store goes for `seconds`; then as long again until the end."""
    budget = {"name": "all", "limit_usd": "100000", "period": "month"}
    patient = {"budget": [budget], "store_timeout_ms": round(STORE_TIMEOUT * 1000)}
    with running_store() as store:
        async with serving(directory, [store.url], **patient) as (upstream, proxies):
            port = proxies[0].port
            async with asyncio.TaskGroup() as group:
                traffic = group.create_task(_traffic(port, calm + seconds + calm))
                await asyncio.sleep(calm)
                gone = time.monotonic()
                before = _connections(store) if fault is stopped else 0
                back = await fault(store, seconds)
                await asyncio.sleep(2)
                attempts = _connections(store) - before
            seen = traffic.result()
            lines = await quiet(proxies, store.client, 60)
            verdict = judge(Truth.of(upstream.books), lines)
            findings = verdict.findings
            if verdict.statuses.keys() - {"reported"}:
                findings.append(f"not only reported: {verdict.statuses}")
            if len(seen) != verdict.requests:
                findings.append(f"{len(seen)} requests were sent, {verdict.requests} reached the upstream")
            with store.client() as look:
                findings += out_of_balance(look, lines)
            bad = [each for each in seen if each.status != 200]
            if bad:
                findings.append(f"{len(bad)} requests had no 200, the first a {bad[0].status}")
            answered = _answered(upstream.books)
            late = [each.ended - answered[each.request_id] for each in seen if gone <= each.ended < back]
            return Away(seen, gone, back, late, attempts, findings)


def _connections(store: Server) -> int:
    with store.client(socket_timeout=10) as client:
        return int(client.info("stats")["total_connections_received"])


def _answered(books: Path) -> dict[str, float]:
    lines = map(json.loads, books.read_text().splitlines())
    return {line["id"]: line["at"] for line in lines if line["event"] == "answered"}


async def _traffic(port: int, seconds: float) -> list[Seen]:
    """A request every so often, whether or not the ones before are answered."""
    seen: list[Seen] = []
    begun = time.monotonic()
    free: list[Line] = []

    async def request(number: int) -> None:
        stream = number % 2 == 1
        metadata = {"prompt": "20", "completion": "30", "gap": f"{STREAM_GAP}", "wait": "0.005"}
        body = json.dumps(chat("gpt-4o-mini", stream=stream, max_tokens=100, metadata=metadata)).encode()
        line = free.pop() if free else await Line.to(port)
        sent = time.monotonic()
        await line.send(f"away-{number}", body, "sk-chaos")
        await line.body(await line.head())
        seen.append(Seen(f"away-{number}", stream, line.status, sent, time.monotonic()))
        free.append(line)

    async with asyncio.TaskGroup() as group:
        for number in range(int(seconds / EVERY)):
            await asyncio.sleep(max(0, begun + number * EVERY - time.monotonic()))
            group.create_task(request(number))
    for line in free:
        await line.close()
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    for fault in (stopped, killed):
        with tempfile.TemporaryDirectory(prefix="taximeter-away-") as directory:
            print(f"--- store {fault.__name__}\n{asyncio.run(away(Path(directory), fault, options.seconds)).text()}")


if __name__ == "__main__":
    main()
