"""A task is owned until it ended, and its fault is told."""

import asyncio
import logging

import pytest

from proxy.server.tasks import Tasks


async def test_a_fault_is_logged_and_the_task_let_go(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ValueError("broken")

    tasks = Tasks()
    with caplog.at_level(logging.ERROR, "taximeter"):
        task = tasks.start(fail(), name="failing")
        await asyncio.wait([task])
        await asyncio.sleep(0)

    assert len(tasks) == 0
    assert "internal fault in failing: ValueError: broken" in caplog.text


async def test_drain_waits_and_then_cancels() -> None:
    tasks = Tasks()
    quick = tasks.start(asyncio.sleep(0.01))
    slow = tasks.start(asyncio.sleep(60))

    late = await tasks.drain(0.1)

    assert (late, quick.cancelled(), slow.cancelled()) == (1, False, True)
    assert await tasks.drain(0.1) == 0
