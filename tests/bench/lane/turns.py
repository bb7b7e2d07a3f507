"""Two workers beside one, in turns of two seconds: minutes apart, a machine differs more from itself than the two do.

Where there are no cores to spare, load, upstream and store share those of the workers, and each that wakes up
interrupts a worker, once a request: that costs switches and caches. So two workers are measured while their neighbours
give way (SCHED_BATCH: who wakes up waits until a core is free), nearly as if those had cores of their own, and while
they interrupt. Load and upstream are the bench's; the store is a neighbour that two workers have on every small machine.
"""

import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from statistics import median

from tests.bench.lane import processes
from tests.bench.lane.measure import Cores, started
from tests.bench.lane.scenarios import SETTLED_SECONDS, Figures, Run, Size, whole
from tests.bench.lane.subjects import Subject

TURNS = "turns"
"""What this is called beside the scenarios."""

ROUNDS = 6


@dataclass(frozen=True)
class _Side:
    run: Run
    cores: Cores

    def cpu_ms(self, *, gives_way: bool) -> float:
        """Of a whole request, after a short load that warms it again."""
        neighbours = [os.getpid(), self.run.upstream.process.pid, *self.run.subject.store_pids()]
        os.sched_setaffinity(0, self.cores.rest)  # the load inherits this, and the policy
        processes.schedule(neighbours, os.SCHED_BATCH if gives_way else os.SCHED_OTHER)
        return whole(self.run)["cpu_ms"]


def in_turns(two: Subject, one: Subject, available: Sequence[int], size: Size) -> Figures:
    """CPU a whole request of `two` as ratios to `one`: the medians of one start of both. Raises BadRunError."""
    size = replace(size, seconds=size.seconds / 4)
    given_way, interrupted = [], []
    with ExitStack() as stack:
        sides = []
        for subject in (one, two):
            cores = Cores.of(available, subject.workers)
            os.sched_setaffinity(0, cores.rest)  # the upstream inherits it
            sides.append(_Side(Run(*stack.enter_context(started(subject, cores)), size), cores))
        alone, together = sides
        stack.callback(processes.schedule, [os.getpid()], os.SCHED_OTHER)
        time.sleep(SETTLED_SECONDS)
        for number in range(ROUNDS):
            print(f"  {two.name}: {TURNS}, {number + 1} of {ROUNDS}", file=sys.stderr, flush=True)
            of_one = alone.cpu_ms(gives_way=False)  # its core is its own
            given_way.append(together.cpu_ms(gives_way=True) / of_one)
            interrupted.append(together.cpu_ms(gives_way=False) / of_one)
    return {"given_way": median(given_way), "interrupted": median(interrupted)}
