"""Fixtures of the system tests: real processes, started for one test and gone after it."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from proxy.cli.demo_upstream import ScriptedUpstream
from tests.system.harness import Redis7, Start, missing_program, running_redis7, taximeter


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """`async with start(upstream_url, **settings) as meter:`, once in a test: its directory is fixed."""
    return partial(taximeter, tmp_path / "meter")


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as running:
        yield running


@pytest.fixture
async def redis7(tmp_path: Path) -> AsyncIterator[Redis7]:
    if reason := missing_program("redis-server"):
        pytest.skip(reason)
    async with running_redis7(tmp_path / "redis") as running:
        yield running
