"""The worker processes: one that cannot start is tried ever later, and an end does not wait for it."""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.config import Config
from proxy.errors import TaximeterError
from proxy.server import workers
from proxy.server.workers import Workers


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def program(directory: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> Path:
    """What is run in place of a worker."""
    path = directory / "worker"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(path))
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")  # to be put back after the test
    return path


async def test_one_that_fails_again_and_again_is_tried_ever_later(
    tmp_path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    program(tmp_path, monkeypatch, "exit 3")
    monkeypatch.setattr(workers, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(workers, "LONGEST_PAUSE", 0.05)
    these = Workers(1, listener, tmp_path / "metrics")
    died: list[int] = []
    these.on_death = died.append
    await these.start(Config(data_dir=tmp_path), "")
    with pytest.raises(TaximeterError, match="a worker did not start"):
        await these.wait_ready()
    keeping = asyncio.get_running_loop().create_task(these.keep())
    async with asyncio.timeout(20):
        while len(died) < 6:
            await asyncio.sleep(0.01)
    monkeypatch.setattr(workers, "LONGEST_PAUSE", 3600)
    await these.stop(1)
    await asyncio.wait_for(keeping, 5)
    ended = [record.getMessage() for record in caplog.records if "ended with" in record.getMessage()]
    assert [text.rpartition("it is replaced")[2] for text in ended[:5]] == [
        " in 0.01 s",
        " in 0.02 s",
        " in 0.04 s",
        " in 0.05 s",
        " in 0.05 s",
    ]
    assert "ended with exit code 3" in ended[0]
    assert set(died) == {0}


async def test_one_that_is_steady_is_replaced_at_once(
    tmp_path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Its arguments are: -P -m proxy.server LISTENER ANSWERS.
    program(tmp_path, monkeypatch, "echo ready > /dev/fd/$5; exec sleep 3600")
    monkeypatch.setattr(workers, "STEADY_SECONDS", 0.0)
    these = Workers(2, listener, tmp_path / "metrics")
    await these.start(Config(data_dir=tmp_path), "")
    await these.wait_ready()
    keeping = asyncio.get_running_loop().create_task(these.keep())
    before = [worker.pid for worker in these._workers]
    os.kill(before[1], 9)
    async with asyncio.timeout(20):
        while these._workers[1].pid == before[1] or not these._workers[1].was_ready:
            await asyncio.sleep(0.01)
    assert these._workers[0].pid == before[0]
    await these.stop(1)
    await asyncio.wait_for(keeping, 5)
    assert caplog.messages == [f"worker 1 (pid {before[1]}) ended with signal SIGKILL: it is replaced"]


async def test_one_that_does_not_end_is_killed(
    tmp_path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    program(tmp_path, monkeypatch, 'trap "" TERM; echo ready > /dev/fd/$5; while :; do sleep 0.1; done')
    monkeypatch.setattr(workers, "KILL_SECONDS", 0.2)
    these = Workers(1, listener, tmp_path / "metrics")
    await these.start(Config(data_dir=tmp_path), "")
    await these.wait_ready()
    await these.stop(0)
    assert "did not end in 0.2 s: it is killed" in caplog.text
    assert not these._workers[0].lives


def test_those_that_never_got_orders_leave(
    tmp_path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    program(tmp_path, monkeypatch, "exec cat")
    these = Workers(2, listener, tmp_path / "metrics")
    these.close()
    assert [worker.lives for worker in these._workers] == [False, False]
    assert not caplog.records


async def test_a_system_that_starts_no_more_processes_is_asked_again(
    tmp_path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = program(tmp_path, monkeypatch, "echo ready > /dev/fd/$5; exec sleep 3600")
    monkeypatch.setattr(workers, "STEADY_SECONDS", 0.0)
    monkeypatch.setattr(workers, "LONGEST_PAUSE", 0.05)
    these = Workers(1, listener, tmp_path / "metrics")
    await these.start(Config(data_dir=tmp_path), "")
    await these.wait_ready()
    keeping = asyncio.get_running_loop().create_task(these.keep())
    path.rename(tmp_path / "away")
    before = these._workers[0].pid
    os.kill(before, 9)
    async with asyncio.timeout(20):
        while "worker 0 cannot be started: No such file or directory" not in caplog.text:
            await asyncio.sleep(0.01)
    (tmp_path / "away").rename(path)
    async with asyncio.timeout(20):
        while these._workers[0].pid == before or not these._workers[0].was_ready:
            await asyncio.sleep(0.01)
    await these.stop(1)
    await asyncio.wait_for(keeping, 5)


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "taximeter")
