"""The forwarding path beside others: what a request and a chunk cost in CPU, time and memory.

    python -m tests.bench.lane                       three repetitions of everything (`make bench`), 40 minutes
    python -m tests.bench.lane --quick               one short repetition of nginx and taximeter
    python -m tests.bench.lane --quick --only whole,streams --subjects nginx,taximeter
    python -m tests.bench.lane --profile whole       where the worker's CPU goes

CPU is user and system time of the proxy's whole process tree (/proc), its store apart. taximeter runs with everything
on: a key, a refusing budget that matches, holds, settlements, journal, ledger, metrics, the embedded store; and at the
end of each start its ledger must count as many requests as the upstream was asked. Ratios are to nginx (proxy_pass,
kept-alive upstream connections) in the same repetition; what is shown is the median. Linux only, needs gcc and nginx.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench.lane.measure import Cores, measure
from tests.bench.lane.peers import PEERS
from tests.bench.lane.profiling import profile
from tests.bench.lane.scenarios import FULL, QUICK, SCENARIOS, TINY, BadRunError, Figures, Size
from tests.bench.lane.subjects import SUBJECTS, Subject
from tests.bench.lane.table import judged, rendered
from tests.bench.lane.turns import TURNS, in_turns

SIZES = {"full": FULL, "quick": QUICK, "tiny": TINY}
MEASURED = (*SCENARIOS, TURNS)
QUICK_SUBJECTS = ("direct", "nginx", "taximeter")


def machine() -> dict[str, Any]:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_before": os.getloadavg()[0],
    }


def chosen(names: str | None, *, quick: bool = False) -> list[Subject]:
    known = {subject.name: subject for subject in (*SUBJECTS, *(peer.subject() for peer in PEERS))}
    wanted = names.split(",") if names else list(QUICK_SUBJECTS if quick else known)
    for name in wanted:
        if name not in known:
            sys.exit(f"no subject is called {name!r}: choose from {', '.join(known)}")
    return [known[name] for name in wanted]


def measured(subject: Subject, available: Sequence[int], size: Size, wanted: Sequence[str]) -> dict[str, Figures]:
    """One repetition of one subject, with its turns beside another."""
    cores = Cores.of(available, subject.workers)
    os.sched_setaffinity(0, cores.rest)  # the load and the upstream inherit it
    figures = dict(measure(subject, cores, size, [name for name in wanted if name in SCENARIOS]))
    if subject.beside is not None and TURNS in wanted:
        (beside,) = chosen(subject.beside)
        try:
            figures[TURNS] = in_turns(subject, beside, available, size)
        except (BadRunError, RuntimeError) as error:
            print(f"  {subject.name}: {TURNS}: {error}", file=sys.stderr)
    return figures


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.lane", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one short repetition")
    parser.add_argument("--size", choices=SIZES, help="how long each scenario runs (default: full; quick with --quick)")
    parser.add_argument("--repetitions", type=int, metavar="N", help="default: 3; 1 with --quick")
    parser.add_argument("--subjects", metavar="NAMES", help="separated by commas; default: all")
    parser.add_argument("--only", metavar="NAMES", help=f"some of {','.join(MEASURED)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure of every repetition")
    parser.add_argument("--profile", choices=SCENARIOS, help="profile taximeter's worker during whole, streams, …")
    args = parser.parse_args(arguments)
    wanted = args.only.split(",") if args.only else list(MEASURED)
    for name in wanted:
        if name not in MEASURED:
            sys.exit(f"no scenario is called {name!r}: choose from {', '.join(MEASURED)}")
    size = SIZES[args.size or ("quick" if args.quick else "full")]
    available = sorted(os.sched_getaffinity(0))
    if args.profile:
        profile(args.profile, Cores.of(available, 1), size)
        return

    about = machine()
    here, absent = [], {}
    for subject in chosen(args.subjects, quick=args.quick):
        reason = subject.missing()
        if reason is None:
            here.append(subject)
        else:
            absent[subject.name] = reason
    repetitions = []
    for number in range(args.repetitions or (1 if args.quick else 3)):
        figures = {}
        for subject in here:
            print(f"repetition {number + 1}: {subject.name}", file=sys.stderr, flush=True)
            figures[subject.name] = measured(subject, available, size, wanted)
        repetitions.append(figures)
    versions = {subject.name: subject.version() for subject in here if subject.version()}
    if args.json:
        kept = {"machine": about, "versions": versions, "absent": absent, "repetitions": repetitions}
        args.json.write_text(json.dumps(kept, indent=1))
    print(rendered([subject.name for subject in here], repetitions))
    print(f"\n{judged(repetitions)}\n")
    print(f"{about['cpu']}, {about['cores']} cores, Linux {about['kernel']}, Python {about['python']}, {about['at']};")
    print(f"load average before: {about['load_before']:.2f}; {Cores.of(available, 1)}")
    print(", ".join(f"{name} {number}" for name, number in versions.items()))
    for name, reason in absent.items():
        print(f"not here: {name} ({reason})")


if __name__ == "__main__":
    main()
