"""What each part of a whole request costs in the worker, apart from sockets and the event loop: microseconds of CPU.

    python -m tests.bench.lane.parts

Each part runs alone, thousands of times, on the bytes of the benchmark; the least of several tries counts, so that a
busy machine disturbs it little. What a part costs among all the others is somewhat more: caches are colder there.
"""

import asyncio
import gc
import os
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import process_time
from typing import Any, cast

import uvloop
from prometheus_client import CollectorRegistry

from proxy.admission import Admission, Admitted, Learned, Rules, mint_entry_id
from proxy.budgets import Owner
from proxy.config import BudgetConfig, Config, Secret
from proxy.http1 import read_request as read_request_head
from proxy.http1 import read_response
from proxy.journal import Journal
from proxy.metering import Ending, Meter, Reading, endpoint_of, read_request
from proxy.metrics import Metrics, count_into_files
from proxy.server.headers import to_client, to_upstream
from proxy.server.paths import target_of
from proxy.server.rules import build_rules
from proxy.settlement import Settlement
from proxy.store import Store
from proxy.store.finished import Charge
from proxy.store.operations import Hold, Operation, packed
from tests.bench.lane.scenarios import QUICK, Run
from tests.bench.lane.subjects import Running
from tests.bench.lane.tools import Upstream, upstream
from tests.server.worker_path import NoStore, WorkerPath, with_key

TIMES, TRIES = 2000, 9
BATCH = 64


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n"
    b"Connection: keep-alive\r\nx-request-id: req_1\r\n\r\n"
)
WORDS = ("The", " harbour", " is", " three", " kilometres", " away", ",", " and")


def stream_chunks(*, usage: bool) -> list[bytes]:
    """Chunks of a stream as the benchmark's upstream writes them, one of each word."""
    null_usage = b',"usage":null' if usage else b""
    events = [
        b'data: {"id":"chatcmpl-0000000000000001","object":"chat.completion.chunk","created":1795000000,'
        b'"model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_8bda4d3a2c","choices":['
        b'{"index":0,"delta":{"content":"%b"},"logprobs":null,"finish_reason":null}]%b,"obfuscation":"Xy7aQ"}\n\n'
        % (word.encode(), null_usage)
        for word in WORDS
    ]
    return [b"%x\r\n%b\r\n" % (len(event), event) for event in events]


def chunk_relayed(path: WorkerPath, request: bytes, *, usage: bool) -> float:
    """Microseconds of a chunk from the upstream's socket to the client's, without both."""
    chunks = stream_chunks(usage=usage)
    received, turn_ends = path.from_upstream.data_received, path.desk.turn_end.relay
    path.from_client.data_received(request)
    received(STREAM_HEAD + chunks[0])

    def chunk_of_each() -> None:
        for chunk in chunks:
            received(chunk)
            turn_ends()
        path.client.written.clear()

    figure = microseconds(chunk_of_each) / len(chunks)
    received(b"0\r\n\r\n")
    turn_ends()
    path.client.taken()
    path.upstream.taken()
    return figure


def microseconds(part: Callable[[], object]) -> float:
    """The least CPU time of one call, over the tries."""
    least = float("inf")
    for _ in range(TRIES):
        gc.collect()
        gc.disable()
        began = process_time()
        for _ in range(TIMES):
            part()
        least = min(least, process_time() - began)
        gc.enable()
    return 1e6 * least / TIMES


def reply_of(up: Upstream, request: bytes) -> tuple[bytes, bytes]:
    """Head and body of the benchmark's own reply."""

    async def ask() -> tuple[bytes, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", up.port)
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(700)
        writer.close()
        return head, body

    return asyncio.run(ask())


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, upstream() as up:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder  # metrics in files, as a worker has them
        count_into_files(0)
        _print_parts(Path(folder), up)


def _print_parts(folder: Path, up: Upstream) -> None:
    run = Run(Running(0), up, QUICK)
    request = run.request().encoded()
    head_bytes, _, body = request.partition(b"\r\n\r\n")
    reply_head_bytes, reply = reply_of(up, request)

    budget = BudgetConfig(name="bench", limit_nanos=10**15, period="month", owner="bench")
    rules: Rules = build_rules(Config(data_dir=folder, budgets=(budget,)))
    owner, at, store = Owner("bench", "bench"), datetime.now(UTC), cast("Store", NoStore())
    learned = Learned()
    metrics = Metrics(CollectorRegistry())
    admission, settlement = Admission(store, learned), Settlement(store, metrics, learned)
    journal = Journal.create(folder, "bench")
    endpoint = endpoint_of("POST", "chat/completions")
    head = read_request_head(head_bytes + b"\r\n\r\n")
    reply_head = read_response(reply_head_bytes, "POST")
    facts = read_request(endpoint, body)
    key = Secret("sk-upstream")

    def admit() -> Admitted:
        return admission.prepare(rules, "e" * 36, owner, facts, at, endpoint=endpoint.name, client_request_id=None)

    def metered() -> Reading:
        meter = Meter(endpoint, facts, hide_usage=False)
        meter.start(200, "application/json", "")
        meter.feed(reply)
        meter.tail()
        reading = meter.end(Ending.COMPLETE, body)
        assert isinstance(reading, Reading)
        return reading

    def charged() -> Any:
        return settlement.charge(
            admitted, endpoint.name, reading, upstream_status=200, client_request_id=None, latency_ms=12
        )

    admitted, reading = admit(), metered()
    assert admitted.held is not None
    opened, settled = admitted.held, charged()
    hold, charge = Hold(opened, admitted.accounts, times=4), Charge(settled.line, settled.accounts)
    charge.number = 1
    record = hold.record.encode()
    pair: list[Operation] = [hold, charge]
    batch = pair * (BATCH // 2)

    def journalled() -> None:
        journal.open([("e" * 36, record)])
        journal.done("e" * 36, charge.body)

    async def between_sockets() -> dict[str, float]:
        path = WorkerPath(asyncio.get_running_loop(), folder)
        whole, whole_reply = with_key(request), reply_head_bytes + reply
        await path.warm(whole, whole_reply)
        figures = {"a whole request, from socket to socket": microseconds(lambda: path.one(whole, whole_reply))}
        for name, options in (("a chunk of a stream", {"include_usage": True}), ("… with usage hidden", None)):
            more = {} if options is None else {"stream_options": options}
            streamed = with_key(run.request(stream=True, **more).encoded())
            figures[name] = chunk_relayed(path, streamed, usage=True)
        path.close()
        return figures

    parts: dict[str, Callable[[], object]] = {
        "the request's head read": lambda: read_request_head(head_bytes + b"\r\n\r\n"),
        "… path and endpoint": lambda: endpoint_of("POST", target_of(head.target).path),
        "… entry id": lambda: mint_entry_id(at),
        "… and rewritten for the upstream": lambda: to_upstream(head, identity=True, upstream_key=key, azure=False),
        "the request's body read": lambda: read_request(endpoint, body),
        "admission: card, hold's price, budgets, record": admit,
        "… its hold packed": lambda: Hold(opened, admitted.accounts, times=4),
        "journal: opened and done": journalled,
        "the reply's head read": lambda: read_response(reply_head_bytes, "POST"),
        "… and rewritten for the client": lambda: to_client(reply_head, keep_length=True, decoded=False),
        "the reply metered": metered,
        "settlement: priced, entry made": charged,
        "… its charge packed": lambda: Charge(settled.line, settled.accounts),
        "metrics counted": lambda: settlement._count(settled),
        "… request answered": lambda: metrics.answered(settled.labels, endpoint.name, 200),
    }
    figures = {name: microseconds(part) for name, part in parts.items()}
    figures[f"a batch of {BATCH} for the store, each"] = 2 * microseconds(lambda: packed(batch)) / BATCH
    journal.close(remove=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        together = runner.run(between_sockets())
    _print({**figures, "together": sum(figures.values())})
    _print(together)


def _print(figures: dict[str, float]) -> None:
    for name, figure in figures.items():
        print(f"{name:<50}  {figure:6.2f} µs")


if __name__ == "__main__":
    main()
