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

TIMES, TRIES = 2000, 9
BATCH = 64


class NoStore:
    """Takes everything, keeps nothing."""

    def hold_later(self, opened: object, accounts: object) -> None:
        pass

    def settle(self, entry: object, accounts: object) -> None:
        pass


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
        journal.open("e" * 36, record)
        journal.done("e" * 36, charge.body)

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
    width = max(map(len, figures))
    for name, figure in figures.items():
        print(f"{name:<{width}}  {figure:6.1f} µs")
    print(f"{'together':<{width}}  {sum(figures.values()):6.1f} µs")


if __name__ == "__main__":
    main()
