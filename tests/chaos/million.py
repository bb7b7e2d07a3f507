"""A million holds and settlements: what they cost, and whether the store's memory grows by anything but the ledger.

`python -m tests.chaos.million` (`--requests N` for fewer). Everything that a worker does but the sockets: admission
with three matching budgets, journal, settlement, one ordered connection. Exit 1 with the findings if there are any.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import redis
import uvloop

from proxy.config import BudgetConfig
from proxy.store import keys
from tests.chaos.desk import COST, Desk, desk
from tests.chaos.judgement import PREFIX
from tests.chaos.town import running_store

AT_ONCE = 256
KEPT = 20_000
"""Entries that the ledger keeps here: what is older is trimmed away, without sums, as this measures only memory."""
GROWTH = 512 * 1024
"""Bytes by which memory may differ between one tenth of the run and the end: rehashing, buffers."""
BUDGETS = (
    BudgetConfig(name="all", limit_nanos=10**18, period="month"),
    BudgetConfig(name="each", limit_nanos=10**18, period="day", per="owner"),
    BudgetConfig(name="ever", limit_nanos=10**18, period="total", on_exceed="alert"),
)


@dataclass(frozen=True, slots=True)
class Measured:
    requests: int
    seconds: float
    store_cpu: float
    """Seconds of user and system time of the server's process."""
    worker_cpu: float
    memory: Mapping[int, int]
    """Requests so far → bytes used by everything but the ledger's stream."""
    ledger_bytes: float
    """Of one entry."""
    findings: list[str]

    def text(self) -> str:
        worker, store = self.worker_cpu / self.requests, self.store_cpu / self.requests
        lines = [
            f"{self.requests:,} requests in {self.seconds:.1f} s, {AT_ONCE} at once, {len(BUDGETS)} budgets each",
            f"CPU a request: worker {1e6 * worker:.1f} µs, store {1e6 * store:.1f} µs",
            f"an entry of the ledger takes {self.ledger_bytes:.0f} bytes",
            *(
                f"  after {number:>9,}: {used / 1024:,.0f} KiB but for the ledger"
                for number, used in self.memory.items()
            ),
            *(f"FINDING {finding}" for finding in self.findings),
        ]
        return "\n".join(lines)


async def measure(directory: Path, requests: int) -> Measured:
    with running_store() as store, store.client() as look:
        memory: dict[int, int] = {}
        async with desk(store.url, directory, BUDGETS) as made:
            await _round(made, min(requests, 2_000))  # what is made once is made
            _trim(look)
            store_before, worker_before, begun = _cpu(store.pid), time.process_time(), time.monotonic()
            looking = 0.0
            for tenth in range(1, 11):
                await _round(made, requests // 10)
                paused = time.process_time()
                memory[requests * tenth // 10] = _trim(look)
                looking += time.process_time() - paused
            seconds = time.monotonic() - begun
            worker = time.process_time() - worker_before - looking
            store_cpu = _cpu(store.pid) - store_before
        return Measured(
            requests, seconds, store_cpu, worker, memory, _entry_bytes(look), _findings(look, requests, memory)
        )


async def _round(made: Desk, requests: int) -> None:
    """Held, journalled, settled; so many at once. The store keeps up, as it does behind real sockets."""
    left = requests

    async def client() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            made.settle(await made.admit(datetime.now(UTC)))

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(client())
    while made.store.waiting:
        await asyncio.sleep(0.001)


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _trim(look: redis.Redis) -> int:
    """Bytes that everything but the ledger takes, with the ledger cut to its length."""
    look.xtrim(keys.LEDGER, maxlen=KEPT, approximate=False)
    look.memory_purge()
    # The dataset, as the server counts it: no buffers of clients, no append-only file that is being written.
    return int(look.info("memory")["used_memory_dataset"]) - _ledger(look)


def _ledger(look: redis.Redis) -> int:
    return int(look.memory_usage(keys.LEDGER, samples=0) or 0)


def _entry_bytes(look: redis.Redis) -> float:
    return _ledger(look) / max(1, look.xlen(keys.LEDGER))


def _findings(look: redis.Redis, requests: int, memory: Mapping[int, int]) -> list[str]:
    found = []
    used = list(memory.values())
    if used[-1] - used[0] > GROWTH:
        found.append(f"memory grows: {used[-1] - used[0]:,} bytes from a tenth of the run to its end")
    wanted = (requests + min(requests, 2_000)) * COST
    for key in look.scan_iter(f"{keys.COMMITTED}*"):
        account = key.removeprefix(keys.COMMITTED)
        held = int(look.get(keys.held(account)) or 0)
        if held:
            found.append(f"{account} holds {held}")
    spent = sum(int(look.get(key) or 0) for key in look.scan_iter(f"{keys.COMMITTED}*"))
    if spent != len(BUDGETS) * wanted:
        found.append(f"{spent} nanos were spent, not {len(BUDGETS)} times {wanted}")
    found += [f"{key} has {look.hlen(key)}" for key in look.scan_iter(f"{PREFIX}holds:*") if look.hlen(key)]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="taximeter-million-") as directory:
        measured = uvloop.run(measure(Path(directory), options.requests))
    print(measured.text())
    return 1 if measured.findings else 0


if __name__ == "__main__":
    sys.exit(main())
