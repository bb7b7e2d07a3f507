"""What is measured, one function a scenario: traffic through a running subject, and its figures.

Each makes sure that every request was answered with 200: a figure of failures would be worth nothing.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.bench.lane import processes
from tests.bench.lane.subjects import Running
from tests.bench.lane.tools import Load, Request, Upstream, load

CONNECTIONS = 64
RATE = 500  # whole requests a second at which latencies are measured
FIRST_RATE = 200  # streams begun a second
STREAMS = 100
CHUNKS_A_SECOND = 50
QUIET_SECONDS = 0.5
"""After a load: what a proxy still does for it (settling) is counted as well."""

SETTLED_SECONDS = 2.0
"""After a start, and before memory is looked at: what is loaded or freed a moment later is."""

Figures = dict[str, float]

# What OpenAI's own Python client sends: how many headers there are matters for who parses them.
SDK_HEADERS = {
    "Host": "127.0.0.1",
    "Accept": "application/json",
    "Content-Type": "application/json",
    "User-Agent": "OpenAI/Python 3.54.0",
    "X-Stainless-Lang": "python",
    "X-Stainless-Package-Version": "3.54.0",
    "X-Stainless-OS": "Linux",
    "X-Stainless-Arch": "x64",
    "X-Stainless-Runtime": "CPython",
    "X-Stainless-Runtime-Version": "3.11.7",
    "x-stainless-retry-count": "0",
    "Authorization": "Bearer sk-bench",
}


class BadRunError(Exception):
    """The subject did not do what was to be measured."""


@dataclass(frozen=True)
class Size:
    """How long each scenario runs."""

    seconds: float
    streams_seconds: float
    open_streams: int
    idle_connections: int
    may_fail: float = 0.0
    """The part of the requests; on a busy machine the store is late now and then, and a refusal (503) right."""

    @property
    def warm_seconds(self) -> float:
        return self.seconds / 5


FULL = Size(seconds=8, streams_seconds=10, open_streams=1000, idle_connections=10_000)
QUICK = Size(seconds=3, streams_seconds=4, open_streams=300, idle_connections=2000, may_fail=0.05)
TINY = Size(seconds=0.3, streams_seconds=0.3, open_streams=20, idle_connections=50, may_fail=0.3)


@dataclass
class Run:
    """One subject under measurement."""

    subject: Running
    upstream: Upstream
    size: Size

    def request(self, **more: Any) -> Request:
        messages = [
            {"role": "system", "content": "You are a taxi driver. Answer briefly."},
            {"role": "user", "content": "How far is it from the station to the harbour, and what will it cost?"},
        ]
        body = {"model": self.subject.model, "messages": messages, "max_tokens": 200, "temperature": 0.2, **more}
        return Request(self.subject.path, SDK_HEADERS | dict(self.subject.headers), body)

    def load(self, request: Request, *arguments: object) -> dict[str, Any]:
        return self.checked(load(request, arguments[0], self.subject.port, *arguments[1:]))

    def checked(self, figures: dict[str, Any]) -> dict[str, Any]:
        bad = figures["errors"] + figures["unfinished"]
        bad += sum(count for status, count in figures["statuses"].items() if status != "200")
        if bad > self.size.may_fail * figures["requests"]:
            raise BadRunError(f"not all answered well: {figures}")
        if bad:
            print(f"  {bad} of {figures['requests']} not answered well: {figures['statuses']}", file=sys.stderr)
        return figures

    @contextmanager
    def cpu(self) -> Iterator[Callable[[], tuple[float, float]]]:
        """Yields what tells, afterwards, the CPU seconds of the proxy and of its store."""
        proxy, store = processes.cpu(self.subject.pids()), processes.cpu(self.subject.store_pids())
        spent: list[float] = []
        yield lambda: (spent[0], spent[1])
        time.sleep(QUIET_SECONDS)
        spent.append(processes.used(proxy, processes.cpu(self.subject.pids())))
        spent.append(processes.used(store, processes.cpu(self.subject.store_pids())))


def whole(run: Run) -> Figures:
    """JSON replies of 700 bytes, each connection asking again at once."""
    run.load(run.request(), "closed", CONNECTIONS, run.size.warm_seconds)
    time.sleep(QUIET_SECONDS)
    with run.cpu() as spent:
        done = run.load(run.request(), "closed", CONNECTIONS, run.size.seconds)
    proxy, store = spent()
    return {
        "cpu_ms": 1e3 * proxy / done["requests"],
        "store_ms": 1e3 * store / done["requests"],
        "requests_per_second": done["requests"] / done["seconds"],
    }


def rate(run: Run) -> Figures:
    """JSON replies at a fixed rate; latency from the moment each was due."""
    run.load(run.request(), "rate", RATE, run.size.warm_seconds)
    done = run.load(run.request(), "rate", RATE, run.size.seconds)
    return {"p50_ms": done["latency_us"]["p50"] / 1e3, "p99_ms": done["latency_us"]["p99"] / 1e3}


def _paced(run: Run, **options: Any) -> Figures:
    chunks = max(2, round(run.size.streams_seconds * CHUNKS_A_SECOND))
    run.upstream.streams_are(chunks=chunks, every_us=1_000_000 // CHUNKS_A_SECOND)
    request = run.request(stream=True, **options)
    before = run.upstream.counts()["chunks"]
    with run.cpu() as spent:
        done = run.load(request, "closed", STREAMS, 600, STREAMS)
    proxy, store = spent()
    sent = run.upstream.counts()["chunks"] - before
    extra = STREAMS * (2 if options else 1)  # [DONE], and the usage where it was asked for
    if abs(done["events"] - sent - extra) > STREAMS:  # some proxies write an event more or less a stream
        raise BadRunError(f"of {sent} chunks {done['events'] - extra} came")
    return {"cpu_s": 1e5 * proxy / sent, "store_s": 1e5 * store / sent}


def streams(run: Run) -> Figures:
    """Paced streams whose callers ask for usage: every byte is passed on as it is."""
    return _paced(run, stream_options={"include_usage": True})


def hidden(run: Run) -> Figures:
    """Paced streams whose callers do not ask for usage: a meter has to ask for it, and to hide what it asked for."""
    return _paced(run)


def flood(run: Run) -> Figures:
    """Streams as fast as they are taken."""
    run.upstream.streams_are(chunks=500, every_us=0)
    done = run.load(run.request(stream=True), "closed", CONNECTIONS, run.size.seconds)
    return {"chunks_per_second": done["events"] / done["seconds"]}


def first(run: Run) -> Figures:
    """Time to the first byte of a stream's body, at a fixed rate of new streams of 20 chunks."""
    run.upstream.streams_are(chunks=20, every_us=1_000_000 // CHUNKS_A_SECOND)
    run.load(run.request(stream=True), "rate", FIRST_RATE, run.size.warm_seconds)
    done = run.load(run.request(stream=True), "rate", FIRST_RATE, run.size.seconds)
    return {"first_p50_ms": done["first_us"]["p50"] / 1e3, "first_p99_ms": done["first_us"]["p99"] / 1e3}


def memory(run: Run) -> Figures:
    """Idle, before any traffic."""
    largest = max(map(processes.resident_kb, run.subject.pids()))
    return {"idle_mb": _memory(run) / 1024, "largest_mb": largest / 1024}


def open_streams(run: Run) -> Figures:
    """Memory of streams that are open together, a chunk a second each."""
    _warm(run)
    run.upstream.streams_are(chunks=100_000, every_us=1_000_000)
    before, begun = _memory(run), run.upstream.counts()["streams"]
    held = Load(run.request(stream=True), "closed", str(run.subject.port), str(run.size.open_streams), "600")
    try:
        deadline = time.monotonic() + 60
        while (count := run.upstream.counts()["streams"] - begun) < run.size.open_streams:
            if time.monotonic() > deadline:
                raise BadRunError(f"only {count} streams came to be open together")
            time.sleep(0.1)
        time.sleep(SETTLED_SECONDS)
        after = _memory(run)
    finally:
        held.end()
    return {"stream_kb": (after - before) / run.size.open_streams}


def idle(run: Run) -> Figures:
    """Memory of kept-alive connections that ask nothing, after one request on each."""
    _warm(run)
    before = _memory(run)
    held = Load(run.request(), "idle", str(run.subject.port), str(run.size.idle_connections))
    try:
        run.checked(held.result())
        time.sleep(SETTLED_SECONDS)
        after = _memory(run)
    finally:
        held.end()
    return {"connection_kb": (after - before) / run.size.idle_connections}


def _warm(run: Run) -> None:
    """What is only loaded by the first requests is no cost of the next thousand."""
    run.upstream.streams_are(chunks=10, every_us=0)
    run.load(run.request(), "closed", CONNECTIONS, 60, 4 * CONNECTIONS)
    run.load(run.request(stream=True), "closed", CONNECTIONS, 60, CONNECTIONS)
    time.sleep(SETTLED_SECONDS)


def _memory(run: Run) -> float:
    return sum(map(processes.memory_kb, run.subject.pids()))


SCENARIOS: dict[str, Callable[[Run], Figures]] = {
    "whole": whole,
    "rate": rate,
    "streams": streams,
    "hidden": hidden,
    "flood": flood,
    "first": first,
    "memory": memory,
    "open": open_streams,
    "idle": idle,
}
FRESH = {"memory", "open", "idle"}
"""Scenarios that need a process of their own: what an earlier load left behind would be taken for its memory."""
