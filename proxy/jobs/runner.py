"""Runs jobs: each again and again, on the one process that holds its lease."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from proxy.errors import StoreError
from proxy.jobs import lease
from proxy.jobs.lease import Lease
from proxy.store import Store

LOOK_SECONDS = 5.0  # who has not got the lease asks for it this often

log = logging.getLogger("taximeter")


class Job(Protocol):
    """Something to be done every so often. `run` does it once; it may raise, and may be cancelled anywhere."""

    @property
    def name(self) -> str: ...
    @property
    def every_seconds(self) -> float: ...
    async def run(self) -> None: ...


async def run_jobs(
    store: Store, jobs: Sequence[Job], *, lease_seconds: float = lease.SECONDS, look_seconds: float = LOOK_SECONDS
) -> None:
    """Until it is cancelled. Never raises: a job that fails is logged, and goes on when its time comes again."""
    async with asyncio.TaskGroup() as group:
        for job in jobs:
            group.create_task(_keep(store, job, lease_seconds, look_seconds), name=f"job {job.name}")


async def _keep(store: Store, job: Job, lease_seconds: float, look_seconds: float) -> None:
    ours = Lease(store, job.name, lease_seconds)
    while True:
        try:
            if await _taken(ours):
                await _while_ours(ours, job)
        except Exception:
            log.exception("internal fault around job %s: its lease is asked for again", job.name)
        await asyncio.sleep(look_seconds)


async def _taken(ours: Lease) -> bool:
    try:
        return await ours.take()
    except StoreError:  # away: who runs the store's connection says so
        return False


async def _while_ours(ours: Lease, job: Job) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            work = group.create_task(_repeat(job), name=f"job {job.name} at work")
            await ours.lost()
            work.cancel()
    finally:
        try:
            await ours.drop()
        except StoreError as error:
            log.info("job %s: its lease ends by itself: %s", job.name, error)


async def _repeat(job: Job) -> None:
    said = ""
    while True:
        try:
            await job.run()
            said = ""
        except StoreError as error:
            if str(error) != said:
                said = str(error)
                log.warning("job %s waits: %s", job.name, error)
        except Exception:
            log.exception("job %s failed; it is tried again in %g s", job.name, job.every_seconds)
        await asyncio.sleep(job.every_seconds)
