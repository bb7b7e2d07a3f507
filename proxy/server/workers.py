"""The worker processes as their supervisor sees them: begun, given orders, kept alive, told of new ones, stopped.

A worker takes most of its start to import what it needs, so it is begun before anything else and given its orders when
they are known.
"""

import asyncio
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from proxy.config import Config
from proxy.config.environment import count_metrics_in
from proxy.errors import TaximeterError
from proxy.server.control import READY, REFUSED, Answers, End, Orders, applied, frame

START_SECONDS = 30.0
APPLY_SECONDS = 30.0  # for a worker to follow new orders: it may have thousands of cards to read
KILL_SECONDS = 10.0  # beyond drain_seconds, before a worker that does not end is killed
LEAVE_SECONDS = 5.0  # for one that never got orders
STEADY_SECONDS = 1.0  # who was ready and lived so long did not fail at the start
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # between the starts of one that fails again and again

log = logging.getLogger("taximeter")


class Worker:
    """One process, from its beginning to its end."""

    answers: Answers
    """From `serve` on."""

    def __init__(self, slot: int, listener: socket.socket) -> None:
        """Begin it: it imports what it needs, and waits for its orders. Raises OSError."""
        self.slot = slot
        self.began = time.monotonic()
        self.was_ready = False
        self._orders: asyncio.WriteTransport | None = None
        with ExitStack() as theirs, ExitStack() as ours:
            self._heard, told = os.pipe()
            ours.callback(os.close, self._heard)
            theirs.callback(os.close, told)
            stdin, self._ordered = os.pipe()
            ours.callback(os.close, self._ordered)
            theirs.callback(os.close, stdin)
            self._process = subprocess.Popen(  # noqa: S603 - ourselves
                # -P: a folder named `proxy` where the command was called must not take our place.
                (sys.executable, "-P", "-m", "proxy.server", str(listener.fileno()), str(told)),
                stdin=stdin,
                pass_fds=(listener.fileno(), told),
            )
            self._ends = ours.pop_all()
        self.pid = self._process.pid

    async def serve(self, orders: Orders) -> None:
        """Its first orders."""
        self._ends.pop_all()  # the event loop closes them from here on
        self.answers = await Answers.open(self._heard)
        loop = asyncio.get_running_loop()
        self._orders, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, End(self._ordered))
        self.tell(orders)

    async def ready(self) -> bool:
        """Whether it became ready. One that does not say so in time is killed."""
        self.was_ready = await self.answers.first_of(READY, seconds=START_SECONDS) is not None
        if not self.was_ready:
            self.signal(signal.SIGKILL)
        return self.was_ready

    @property
    def has_orders(self) -> bool:
        return self._orders is not None

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def tell(self, orders: Orders) -> None:
        if self._orders is not None and not self._orders.is_closing():
            self._orders.write(frame(orders))

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def ended(self) -> int:
        """Wait for its end; its exit code, or minus the signal's number."""
        await self.answers.ended.wait()
        if self._orders is not None:
            self._orders.close()
        return await asyncio.to_thread(self._process.wait)  # its pipe is closed: this is a moment

    def leave(self) -> None:
        """End one that was never given orders. Blocks."""
        if self.has_orders:
            return
        self._ends.close()
        try:
            self._process.wait(LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Workers:
    """One worker a slot, on one listening socket. They leave by themselves when the supervisor is gone."""

    def __init__(self, count: int, listener: socket.socket, metrics_dir: Path) -> None:
        """Begin them. Raises OSError."""
        self.on_death: Callable[[int], object] = lambda _: None
        """Called with the slot."""
        self._listener = listener
        self._stopping = asyncio.Event()
        self._given: Orders
        # Counters start at zero with the supervisor; Prometheus knows a reset when it sees one.
        shutil.rmtree(metrics_dir, ignore_errors=True)
        metrics_dir.mkdir(parents=True, mode=0o700)
        count_metrics_in(metrics_dir)
        self._workers: list[Worker] = []
        try:
            for slot in range(count):
                self._workers.append(Worker(slot, listener))
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """For a proxy that does not come to serve: they end without orders. Blocks."""
        for worker in self._workers:
            worker.leave()

    async def start(self, config: Config, store_url: str) -> None:
        """Give them their orders."""
        self._given = Orders(config, store_url)
        for worker in self._workers:
            await worker.serve(self._given.of(worker.slot))

    async def wait_ready(self) -> None:
        """Raises TaximeterError when one does not start."""
        if not all(await asyncio.gather(*(worker.ready() for worker in self._workers))):
            raise TaximeterError("a worker did not start: its reason stands above")

    async def keep(self) -> None:
        """Replace each that dies, until `stop`."""
        async with asyncio.TaskGroup() as group:
            for slot in range(len(self._workers)):
                group.create_task(self._keep(slot), name=f"worker {slot}")

    async def _keep(self, slot: int) -> None:
        pause = 0.0
        while True:
            worker = self._workers[slot]
            code = await worker.ended()
            if self._stopping.is_set():
                return
            self.on_death(slot)
            if worker.was_ready and time.monotonic() - worker.began > STEADY_SECONDS:
                pause = 0.0
            else:
                pause = min(2 * pause or FIRST_PAUSE, LONGEST_PAUSE)
            when = f" in {pause:g} s" if pause else ""
            log.error("worker %d (pid %d) ended with %s: it is replaced%s", slot, worker.pid, _ending(code), when)
            if (successor := await self._begun_again(slot, pause)) is None:
                return
            await successor.serve(self._given.of(slot))
            if not await successor.ready() and not self._stopping.is_set():
                log.error("the new worker %d did not become ready", slot)

    async def _begun_again(self, slot: int, pause: float) -> Worker | None:
        """A new worker after `pause` seconds, or as soon as the system allows one; None when all is to end."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
            if self._stopping.is_set():
                return None
            try:
                worker = Worker(slot, self._listener)
            except OSError as error:
                pause = LONGEST_PAUSE
                log.error("worker %d cannot be started: %s; next try in %g s", slot, error.strerror, pause)  # noqa: TRY400
            else:
                self._workers[slot] = worker
                return worker

    async def follow(self, config: Config) -> list[int]:
        """Let all serve by another configuration; comes back when they do. The slots that said no, or nothing.

        One that dies meanwhile is replaced by one that starts with it.
        """
        self._given = self._given.next(config)
        told = [worker for worker in self._workers if worker.has_orders]
        for worker in told:
            worker.tell(self._given.of(worker.slot))
        follow = await asyncio.gather(*(self._follows(worker) for worker in told))
        return [worker.slot for worker, follows in zip(told, follow, strict=True) if not follows]

    async def _follows(self, worker: Worker) -> bool:
        yes = applied(self._given.number)
        answer = await worker.answers.first_of(yes, REFUSED + yes, seconds=APPLY_SECONDS)
        return answer == yes or worker.answers.ended.is_set()

    async def stop(self, drain_seconds: float) -> None:
        """Let them drain and end; then kill who does not."""
        self._stopping.set()
        for worker in self._workers:
            worker.signal(signal.SIGTERM)
        self._listener.close()  # the last one that holds it open: who comes now is refused instead of left waiting
        seconds = 2 * drain_seconds + KILL_SECONDS
        try:
            async with asyncio.timeout(seconds):
                await self._all_ended()
        except TimeoutError:
            for worker in self._workers:
                if worker.lives:
                    log.error("worker pid %d did not end in %g s: it is killed", worker.pid, seconds)  # noqa: TRY400
                    worker.signal(signal.SIGKILL)
            await self._all_ended()

    async def _all_ended(self) -> None:
        await asyncio.gather(*(worker.ended() for worker in self._workers if worker.has_orders))


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
