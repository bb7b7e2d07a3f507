"""The soak: mixed traffic at half capacity, for half an hour, and what it left behind.

    python -m tests.bench.lane.soak [--minutes 30] [--workers 1] [--json FILE]        (`make soak`)

Whole replies at a fixed rate take a quarter of a core for each worker, paced streams another quarter: the rates are
measured first. One client in ten leaves: at once, or in the middle of its stream. Every few seconds memory and
descriptors of each process are looked at. At the end: memory's slope (least squares, after the first third), descriptors
against those before, and whether the ledger holds as many requests as the upstream was asked, adds up (`taximeter
ledger verify`), and holds nothing any more. Exit 1: something was lost, left open, or does not add up.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.lane import processes
from tests.bench.lane.measure import Cores, started
from tests.bench.lane.scenarios import (
    CHUNKS_A_SECOND,
    CONNECTIONS,
    FULL,
    QUICK,
    SETTLED_SECONDS,
    STREAMS,
    BadRunError,
    Run,
)
from tests.bench.lane.subjects import SUBJECTS, Running
from tests.bench.lane.tools import Load, Upstream

SHARE = 0.25  # of a core for each worker, of each of the two kinds of traffic
LEAVE_PERCENT = 10
QUIET_WITHIN = 60.0
SHORT_MINUTES = 5
"""A shorter soak is for a machine that does other things too: little traffic, which waits for its answers, and more
patience with the store. What is lost it shows as well."""
SHORT_CONNECTIONS, SHORT_STREAMS = 8, 40
PATIENT_MS = 10_000
SPARE_DESCRIPTORS = 100  # kept-alive upstream connections; what leaks a few in a hundred requests leaks thousands


@dataclass
class Watched:
    """One process over time: moments (s), resident memory (KB), descriptors."""

    role: str
    seconds: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)

    def look(self, pid: int, now: float) -> None:
        self.seconds.append(now)
        self.memory.append(processes.resident_kb(pid))
        self.descriptors.append(processes.descriptors(pid))


def slope(seconds: Sequence[float], values: Sequence[float]) -> float:
    """What the straight line of least squares through the points gains a second."""
    middle, mean = sum(seconds) / len(seconds), sum(values) / len(values)
    spread = sum((at - middle) ** 2 for at in seconds)
    return sum((at - middle) * (value - mean) for at, value in zip(seconds, values, strict=True)) / spread


def role(pid: int) -> str:
    if processes.is_store(pid):
        return "store"
    return "worker" if "-m proxy.server" in processes.command(pid) else "supervisor"


def calibrate(run: Run, workers: int) -> tuple[float, int]:
    """Whole requests a second, and streams open at once, that take SHARE of a core for each worker."""
    with run.cpu() as spent:
        done = run.load(run.request(), "closed", CONNECTIONS, run.size.seconds)
    a_request = spent()[0] / done["requests"]
    run.upstream.streams_are(chunks=4 * CHUNKS_A_SECOND, every_us=1_000_000 // CHUNKS_A_SECOND)
    with run.cpu() as spent:
        done = run.load(run.request(stream=True), "closed", STREAMS, 60, STREAMS)
    a_chunk = spent()[0] / done["events"]
    return workers * SHARE / a_request, max(1, round(workers * SHARE / a_chunk / CHUNKS_A_SECOND))


def watch(up: Running, seconds: float, every: float) -> dict[int, Watched]:
    """Look at all processes until the time is over."""
    watched: dict[int, Watched] = {}
    began = time.monotonic()
    while (now := time.monotonic() - began) < seconds:
        for pid in [*up.pids(), *up.store_pids()]:
            watched.setdefault(pid, Watched(role(pid))).look(pid, now)
        time.sleep(every)
    return watched


def quiet(up: Running, behind: Upstream) -> dict[str, Any]:
    """What the ledger says, as soon as it says what the upstream does, or when time is up."""
    assert up.cli is not None
    deadline = time.monotonic() + QUIET_WITHIN
    while True:
        report = json.loads(up.cli("report", "--json").stdout)["total"]
        (budget,) = json.loads(up.cli("budgets", "--json").stdout)["budgets"]
        asked = behind.asked()
        if (report["requests"] == asked and float(budget["held_usd"]) == 0) or time.monotonic() > deadline:
            return {"asked": asked, "entries": report["requests"], "held_usd": budget["held_usd"], "report": report}
        time.sleep(1)


def soak(seconds: float, workers: int) -> tuple[Mapping[str, Any], list[str]]:
    """The figures, and what is wrong."""
    subject = next(subject for subject in SUBJECTS if subject.name == ("taximeter" if workers == 1 else "taximeter-2"))
    cores = Cores.of(sorted(os.sched_getaffinity(0)), workers)
    os.sched_setaffinity(0, cores.rest)
    is_short = seconds < 60 * SHORT_MINUTES
    size = QUICK if is_short else FULL
    settings = {"store_timeout_ms": PATIENT_MS} if is_short else {}
    with started(subject, cores, **settings) as (up, behind):
        time.sleep(SETTLED_SECONDS)
        run = Run(up, behind, size)
        whole, streams = ("closed", float(SHORT_CONNECTIONS)), SHORT_STREAMS
        if not is_short:
            run.load(run.request(), "closed", CONNECTIONS, 1)
            rate, streams = calibrate(run, workers)
            whole = ("rate", rate)
        run.upstream.streams_are(chunks=4 * CHUNKS_A_SECOND, every_us=1_000_000 // CHUNKS_A_SECOND)
        traffic = f"whole requests {whole[0]} {whole[1]:.0f}, {streams} streams, for {seconds:.0f} s"
        print(traffic, file=sys.stderr, flush=True)
        time.sleep(SETTLED_SECONDS)
        before = {pid: processes.descriptors(pid) for pid in up.pids()}
        port, length = str(up.port), f"{seconds:.0f}"
        with run.cpu() as spent:
            loads = [
                Load(run.request(), whole[0], port, f"{whole[1]:.3f}", length, "-1", str(LEAVE_PERCENT)),
                Load(run.request(stream=True), "closed", port, str(streams), length, "-1", str(LEAVE_PERCENT)),
            ]
            watched = watch(up, seconds, max(0.5, min(5.0, seconds / 60)))
            figures = [load.result() for load in loads]
        found = quiet(up, behind)
        assert up.cli is not None
        verify = up.cli("ledger", "verify")
        after = {pid: processes.descriptors(pid) for pid in up.pids()}
        log = (up.log or Path(os.devnull)).read_text(errors="replace")

    wrong = []
    for done in figures:
        try:
            run.checked(done)
        except BadRunError as error:
            wrong.append(str(error))
    if found["entries"] != found["asked"]:
        wrong.append(f"the upstream was asked {found['asked']} times, the ledger has {found['entries']}")
    if float(found["held_usd"]):
        wrong.append(f"{found['held_usd']} USD are still held")
    if verify.returncode:
        wrong.append(f"ledger verify: exit {verify.returncode}: {verify.stderr or verify.stdout}")
    if set(after) != set(before):
        wrong.append("a process died and was replaced")
    wrong += [
        f"{watched[pid].role} {pid} had {before[pid]} descriptors before, {count} after"
        for pid, count in after.items()
        if pid in before and count > before[pid] + SPARE_DESCRIPTORS
    ]
    wrong += [line for line in log.splitlines() if "Traceback" in line or " ERROR " in line]
    proxy, store = spent()
    return {
        "seconds": seconds,
        "traffic": traffic,
        "cores_used": proxy / seconds,
        "store_cores_used": store / seconds,
        "loads": figures,
        "account": found,
        "verify": verify.stdout.strip(),
        "processes": [vars(process) for process in watched.values()],
        "descriptors": {"before": before, "after": after},
    }, wrong


def shown(figures: Mapping[str, Any]) -> str:
    whole, streams = figures["loads"]
    account = figures["account"]
    lines = [
        figures["traffic"],
        f"whole replies: {whole['requests']}, p99 {whole['latency_us']['p99'] / 1e3:.1f} ms, {whole['left']} clients left",
        f"streams: {streams['requests']} with {streams['events']} events, {streams['left']} clients left",
        f"CPU: {figures['cores_used']:.2f} cores, the store {figures['store_cores_used']:.2f}",
        f"the upstream was asked {account['asked']} times, the ledger has {account['entries']}; held {account['held_usd']}",
        f"ledger verify: {figures['verify']}",
    ]
    for process in figures["processes"]:
        late = len(process["seconds"]) // 3
        seconds, memory = process["seconds"][late:], process["memory"][late:]
        if len(seconds) < 2:
            continue
        lines.append(
            f"{process['role']}: {memory[0] / 1024:.1f} MB → {memory[-1] / 1024:.1f} MB, "
            f"{60 * slope(seconds, memory):+.1f} KB a minute; descriptors at most {max(process['descriptors'])}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.lane.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--workers", type=int, choices=(1, 2), default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure and look")
    args = parser.parse_args()
    try:
        figures, wrong = soak(60 * args.minutes, args.workers)
    except BadRunError as error:
        sys.exit(str(error))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1))
    print(shown(figures))
    for line in wrong:
        print(f"WRONG: {line}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
