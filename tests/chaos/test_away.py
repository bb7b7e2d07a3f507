"""The store is stopped for 20 seconds, or killed: nothing is lost, and who may pass hardly notices."""

import statistics
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.chaos.away import STORE_TIMEOUT, away, killed, stopped
from tests.store.servers import Server

PROCESSES = 3  # two workers and the supervisor
NOISE = 0.5  # seconds that a busy machine may take for anything


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "seconds"), [(stopped, 20.0), (killed, 5.0)])
async def test_the_store_goes_and_comes_back(
    tmp_path: Path, fault: Callable[[Server, float], Awaitable[float]], seconds: float
) -> None:
    happened = await away(tmp_path, fault, seconds)
    print(happened.text())

    assert not happened.findings
    assert max(happened.during) < max(happened.before) + STORE_TIMEOUT + NOISE
    assert statistics.median(happened.during) < statistics.median(happened.before) + NOISE / 10
    # A byte that waited for the store would wait for its timeout at least.
    assert max(happened.late) < STORE_TIMEOUT / 2
    # No herd: a process has three connections, and tries each once in two seconds or less often.
    assert happened.connections <= PROCESSES * (1.5 * seconds + 4)
