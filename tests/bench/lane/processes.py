"""What the kernel says about processes: CPU, memory, descriptors. Linux only (/proc)."""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
STORES = ("valkey-server", "redis-server")
"""Names of the store's process, whose CPU and memory are stated apart."""


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third (state) on: the second, the name, may hold blanks."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def tree(*roots: int) -> list[int]:
    """The roots and all that descends from them, as far as they live."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            children.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
    found, new = [], [root for root in roots if Path(f"/proc/{root}").exists()]
    while new:
        found += new
        new = [child for pid in new for child in children.get(pid, [])]
    return found


def command(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ").strip()
    return ""


def is_store(pid: int) -> bool:
    with suppress(OSError):
        return (Path(f"/proc/{pid}/exe").readlink().name.partition(" ")[0]) in STORES or (
            Path(f"/proc/{pid}/comm").read_text().strip() in STORES
        )
    return False


def cpu(pids: Iterable[int]) -> dict[int, float]:
    """Seconds of CPU (user and system, all threads) by process."""
    seconds = {}
    for pid in pids:
        with suppress(OSError, IndexError):
            fields = _stat(pid)
            seconds[pid] = (int(fields[11]) + int(fields[12])) / TICKS
    return seconds


def user_and_system(pid: int) -> tuple[float, float]:
    """Seconds of CPU in its own code and in the kernel for it."""
    fields = _stat(pid)
    return int(fields[11]) / TICKS, int(fields[12]) / TICKS


def used(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """Seconds of CPU between two looks; a process that came between them counts whole."""
    return sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())


def memory_kb(pid: int) -> float:
    """Proportional set size: what is shared between processes counts once over all of them. A dead process has none."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return float(line.split()[1])
    return 0.0


def resident_kb(pid: int) -> float:
    """Resident set size: all that it has in memory, shared or not."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024
    return 0.0


def descriptors(pid: int) -> int:
    with suppress(OSError):
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return 0


def schedule(pids: Iterable[int], policy: int) -> None:
    """Give processes, with all their threads, a policy of the scheduler that has no priorities (SCHED_BATCH, …)."""
    for pid in pids:
        for thread in _threads(pid):
            with suppress(OSError):
                os.sched_setscheduler(thread, policy, os.sched_param(0))


def pin(pids: Iterable[int], cores: frozenset[int]) -> None:
    """Keep processes, with all their threads, on these cores."""
    for pid in pids:
        for thread in _threads(pid):
            with suppress(OSError):
                os.sched_setaffinity(thread, cores)


def _threads(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(thread.name) for thread in Path(f"/proc/{pid}/task").iterdir()]
    return []
