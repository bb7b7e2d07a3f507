"""Jobs under leases in a real store: one runs at a time, a lost lease stops it, a failure does not end it."""

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from proxy.jobs import Job, run_jobs
from proxy.jobs.lease import Lease
from proxy.store import Store
from tests.store.servers import Server

LEASE_SECONDS = 0.6
LOOK_SECONDS = 0.05


@pytest.fixture
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="tm-") as path:
        running = Server("valkey", Path(path))
        running.start()
        yield running
        running.kill()


@asynccontextmanager
async def opened(server: Server, writer: str) -> AsyncIterator[Store]:
    store = await Store.open(server.url, writer=writer, timeout=0.2)
    try:
        yield store
    finally:
        await store.close(0)


@dataclass
class Counting:
    """Counts its runs, and how many of all of its kind were at work at the same moment."""

    at_work: list[str]
    who: str
    runs: int = 0
    most_at_once: int = 0
    faults: list[Exception] = field(default_factory=list)
    name: str = "counting"
    every_seconds: float = 0.01

    async def run(self) -> None:
        self.at_work.append(self.who)
        try:
            self.most_at_once = max(self.most_at_once, len(self.at_work))
            await asyncio.sleep(0.01)
            if self.faults:
                raise self.faults.pop()
            self.runs += 1
        finally:
            self.at_work.remove(self.who)


@asynccontextmanager
async def running(store: Store, *jobs: Job) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(run_jobs(store, jobs, lease_seconds=LEASE_SECONDS, look_seconds=LOOK_SECONDS))
        try:
            yield
        finally:
            task.cancel()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.005)


async def test_one_instance_runs_a_job_and_another_takes_over_when_it_ends(server: Server) -> None:
    at_work: list[str] = []
    first, second = Counting(at_work, "first"), Counting(at_work, "second")
    async with opened(server, "a") as one, opened(server, "b") as two:
        async with running(one, first):
            await until(lambda: first.runs > 0)
            async with running(two, second):
                await until(lambda: first.runs > 50)  # longer than its lease: it was kept up
                assert second.runs == 0
            before = first.runs
            await until(lambda: first.runs > before)
        async with running(two, second):
            await until(lambda: second.runs > 0)
    assert max(first.most_at_once, second.most_at_once) == 1


async def test_a_lease_that_cannot_be_kept_stops_the_job_and_it_goes_on_when_the_store_is_back(server: Server) -> None:
    at_work: list[str] = []
    job = Counting(at_work, "only")
    async with opened(server, "a") as store, running(store, job):
        await until(lambda: job.runs > 0)
        server.pause()
        try:
            await asyncio.sleep(2 * LEASE_SECONDS)
            stopped_at = job.runs
            await asyncio.sleep(0.1)
            assert (job.runs, at_work) == (stopped_at, [])
        finally:
            server.resume()
        await until(lambda: job.runs > stopped_at)


async def test_a_lease_that_somebody_else_has_stops_the_job(server: Server) -> None:
    job = Counting([], "only")
    async with opened(server, "a") as store, running(store, job):
        await until(lambda: job.runs > 0)
        with server.client() as client:
            client.set("{taximeter}:lease:counting", "somebody else")
        await asyncio.sleep(LEASE_SECONDS)
        stopped_at = job.runs
        await asyncio.sleep(0.1)
        assert job.runs == stopped_at
        with server.client() as client:
            client.delete("{taximeter}:lease:counting")
        await until(lambda: job.runs > stopped_at)


async def test_a_failure_is_logged_and_the_job_goes_on(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    job = Counting([], "only", faults=[ValueError("broken")])
    async with opened(server, "a") as store, running(store, job):
        await until(lambda: job.runs > 1)
    assert "job counting failed; it is tried again in 0.01 s" in caplog.text


async def test_a_lease_is_given_up_only_by_its_holder_and_ends_by_itself(server: Server) -> None:
    async with opened(server, "a") as store:
        ours, theirs = Lease(store, "x", 0.2), Lease(store, "x", 0.2)
        assert (await ours.take(), await theirs.take(), await ours.take()) == (True, False, True)
        await theirs.drop()
        assert not await theirs.take()
        await asyncio.sleep(0.25)
        assert await theirs.take()
        await theirs.drop()
        assert await ours.take()


async def test_a_fault_around_a_lease_ends_neither_this_job_nor_others(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    faults = [RuntimeError("below"), RuntimeError("again")]
    take = Store.take_lease

    async def taking(store: Store, name: str, holder: str, seconds: float) -> bool:
        if name == "broken" and faults:
            raise faults.pop()
        return await take(store, name, holder, seconds)

    monkeypatch.setattr(Store, "take_lease", taking)
    broken, sound = Counting([], "broken", name="broken"), Counting([], "sound")
    async with opened(server, "a") as store, running(store, broken, sound):
        await until(lambda: broken.runs > 0 and sound.runs > 0)
    assert caplog.text.count("internal fault around job broken") == 2
