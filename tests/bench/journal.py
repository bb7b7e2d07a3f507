"""What the journal costs: `python tests/bench/journal.py [DIRECTORY]` (default: the working directory's disk).

An append is measured as the worker does it, one OPEN and one DONE a request; the sync beside it, as many requests wait.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from proxy.journal import Journal, adopt

REQUESTS = 20_000
ROUNDS = 5
OPENED, FINISHED = b"o" * 300, b"d" * 700  # bytes; what a request with one budget takes


def microseconds(seconds: float) -> float:
    return seconds * 1e6


def appends(journal: Journal, name: int) -> tuple[float, float]:
    """Wall clock and CPU of one append, in seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    for count in range(REQUESTS):
        entry_id = f"01920000-0000-7000-8000-{name:04d}{count:08d}"
        journal.open([(entry_id, OPENED)])
        journal.done(entry_id, FINISHED)
    return (time.perf_counter() - wall) / REQUESTS / 2, (time.process_time() - cpu) / REQUESTS / 2


async def syncs(journal: Journal, waiting: int) -> float:
    """Wall clock until `waiting` requests that came at once are on disk, in seconds."""
    times = []
    for count in range(50):
        for each in range(waiting):
            journal.open([(f"sync-{waiting}-{count}-{each}", OPENED)])
        began = time.perf_counter()
        await asyncio.gather(*(journal.synced() for _ in range(waiting)))
        times.append(time.perf_counter() - began)
    return statistics.median(times)


async def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else ".") as directory:
        journal = Journal.create(Path(directory), "bench")
        measured = [appends(journal, name) for name in range(ROUNDS)]
        wall, cpu = (statistics.median(each) for each in zip(*measured, strict=True))
        print(
            f"append: {microseconds(wall):.1f} µs ({microseconds(cpu):.1f} µs CPU), median of {ROUNDS} × {2 * REQUESTS}"
        )
        for waiting in (1, 64):
            print(f"on disk, {waiting} waiting: {1e3 * await syncs(journal, waiting):.2f} ms, median of 50")
        size = journal.disk_bytes
        journal.close(remove=False)
        began = time.perf_counter()
        adopted = adopt(Path(directory) / "bench")
        assert adopted is not None
        assert len(adopted.finished) == ROUNDS * REQUESTS
        print(
            f"read back: {size / 2**20:.0f} MiB, {len(adopted.finished)} DONE, in {time.perf_counter() - began:.2f} s"
        )
        adopted.journal.close(remove=True)


if __name__ == "__main__":
    asyncio.run(main())
