"""Where the CPU of taximeter's busiest process goes during a scenario, by py-spy."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

from tests.bench.lane import processes
from tests.bench.lane.measure import Cores, started
from tests.bench.lane.scenarios import SCENARIOS, SETTLED_SECONDS, Run, Size
from tests.bench.lane.subjects import SUBJECTS

CACHE = Path.home() / ".cache" / "taximeter-bench"
PY_SPY = "0.4.1"
SHOWN = 40
SECONDS = 12


def py_spy() -> Path:
    """py-spy in an environment of its own, installed when it is not there yet."""
    folder = CACHE / f"py-spy-{PY_SPY}"
    if not (folder / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", f"py-spy=={PY_SPY}"], check=True)
        (folder / "complete").touch()
    return folder / "bin" / "py-spy"


def profile(scenario: str, cores: Cores, size: Size) -> None:
    """Print the share of samples of each function: by itself, and with all that it calls."""
    spy = py_spy()
    size = replace(size, may_fail=1.0, seconds=SECONDS + 4, streams_seconds=SECONDS + 4)
    subject = next(subject for subject in SUBJECTS if subject.name == "taximeter")
    os.sched_setaffinity(0, cores.rest)
    with tempfile.TemporaryDirectory() as folder, started(subject, cores) as (up, behind):
        time.sleep(SETTLED_SECONDS)
        load = threading.Thread(target=SCENARIOS[scenario], args=(Run(up, behind, size),))
        load.start()
        time.sleep(size.warm_seconds + 1)
        before = processes.cpu(up.pids())
        time.sleep(1)
        spent = {pid: seconds - before.get(pid, 0) for pid, seconds in processes.cpu(up.pids()).items()}
        busiest = max(spent, key=lambda pid: spent[pid])
        stacks = Path(folder) / "stacks"
        command = [str(spy), "record", "--native", "--pid", str(busiest), "--duration", str(SECONDS), "--rate", "150"]
        user, system = processes.user_and_system(busiest)
        subprocess.run([*command, "--format", "raw", "--output", str(stacks)], check=True)
        user, system = (
            now - then for now, then in zip(processes.user_and_system(busiest), (user, system), strict=True)
        )
        load.join()
        print(f"\n{processes.command(busiest)}: {user:.1f} s user, {system:.1f} s system in {SECONDS} s")
        _show(stacks.read_text())


def _show(stacks: str) -> None:
    alone: Counter[str] = Counter()
    within: Counter[str] = Counter()
    native: Counter[str] = Counter()
    for line in stacks.splitlines():
        frames, _, samples = line.rpartition(" ")
        names = [name.rpartition(":")[0] or name for name in frames.split(";")]
        if any(name.startswith("_queue_SimpleQueue_get") for name in names):
            continue  # a pool's thread that waits for work
        python = [name for name in names if ".py" in name and "<frozen" not in name]
        native[names[-1]] += int(samples)
        alone[python[-1] if python else names[-1]] += int(samples)
        for name in set(python):
            within[name] += int(samples)
    total = alone.total()
    titles = ("Python functions, with the C code they call", "with all that they call", "by itself, C or Python")
    for title, counts in zip(titles, (alone, within, native), strict=True):
        print(f"\n{title} ({total} samples)")
        for name, count in counts.most_common(SHOWN):
            if count < 0.97 * total:  # what runs the loop is in all of them
                print(f"{100 * count / total:6.1f}%  {name}")
