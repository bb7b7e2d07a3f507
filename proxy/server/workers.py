"""The worker processes as their supervisor sees them: started, kept alive, told of new orders, stopped."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import Process
from pathlib import Path

from proxy.config import Config
from proxy.config.environment import process_environ
from proxy.errors import TaximeterError
from proxy.server.control import READY, REFUSED, Answers, Orders, applied, frame

log = logging.getLogger("taximeter")

START_SECONDS = 30.0
APPLY_SECONDS = 30.0  # for a worker to follow new orders: it may have thousands of cards to read
KILL_SECONDS = 10.0  # beyond drain_seconds, before a worker that does not end is killed
CRASH_PAUSE = 1.0  # a worker that dies at once must not be restarted in a tight loop


class Workers:
    """One process a slot. They leave by themselves when the supervisor is gone: their standard input ends."""

    def __init__(self, config: Config, store_url: str, listener: socket.socket, metrics_dir: Path) -> None:
        self._config = config
        self._store_url = store_url
        self._listener = listener
        self._metrics_dir = metrics_dir
        self._processes: dict[int, Process] = {}
        self._answers: dict[int, Answers] = {}
        self._number = 0
        self._stopping = asyncio.Event()
        self.slots = range(config.workers)

    async def start(self) -> None:
        for slot in self.slots:
            await self._spawn(slot)

    async def wait_ready(self) -> None:
        """Raises TaximeterError when one does not start."""
        for slot in self.slots:
            if await self._answers[slot].first_of(READY, seconds=START_SECONDS) is None:
                raise TaximeterError("a worker did not start: its reason stands above")

    async def keep(self, slot: int) -> None:
        """Replace the slot's worker whenever it dies, until `stop`."""
        while True:
            worker, started = self._processes[slot], time.monotonic()
            code = await worker.wait()
            if self._stopping.is_set():
                return
            log.error("worker %d (pid %d) ended with %s: it is replaced", slot, worker.pid, _ending(code))
            if time.monotonic() - started < CRASH_PAUSE:
                await asyncio.sleep(CRASH_PAUSE)
                if self._stopping.is_set():
                    return
            await self._spawn(slot)
            if await self._answers[slot].first_of(READY, seconds=START_SECONDS) is None:
                log.error("the new worker %d did not become ready", slot)

    async def follow(self, config: Config) -> list[int]:
        """Let all serve by another configuration; comes back when they do. The slots that said no, or nothing.

        One that dies meanwhile is replaced by one that starts with it.
        """
        self._config = config
        self._number += 1
        alive = [slot for slot, worker in self._processes.items() if worker.returncode is None]
        for slot in alive:
            self._send(slot)
        return [slot for slot in alive if not await self._follows(slot)]

    async def stop(self) -> None:
        """Let them drain and end; then kill who does not."""
        self._stopping.set()
        workers = list(self._processes.values())
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                worker.terminate()
        self._listener.close()  # the last one that holds it open: who comes now is refused instead of left waiting
        deadline = 2 * self._config.drain_seconds + KILL_SECONDS
        try:
            async with asyncio.timeout(deadline):
                await asyncio.gather(*(worker.wait() for worker in workers))
        except TimeoutError:
            for worker in workers:
                if worker.returncode is None:
                    log.error("worker pid %d did not end in %g s: it is killed", worker.pid, deadline)  # noqa: TRY400
                    worker.kill()
            await asyncio.gather(*(worker.wait() for worker in workers))
        for answers in self._answers.values():
            answers.close()

    async def _spawn(self, slot: int) -> None:
        """Start a worker. It says on a pipe of its own that it is ready, and which orders it follows."""
        heard, told = os.pipe()
        try:
            worker = await asyncio.create_subprocess_exec(
                # -P: a folder named `proxy` where the command was called must not take our place.
                *(sys.executable, "-P", "-m", "proxy.server.worker", str(self._listener.fileno()), str(told)),
                stdin=asyncio.subprocess.PIPE,
                pass_fds=(self._listener.fileno(), told),
                env={**process_environ(), "PROMETHEUS_MULTIPROC_DIR": str(self._metrics_dir)},
            )
        except OSError:
            os.close(heard)
            raise
        finally:
            os.close(told)
        if slot in self._answers:
            self._answers[slot].close()
        self._answers[slot] = await Answers.open(heard)
        self._processes[slot] = worker
        self._send(slot)

    def _send(self, slot: int) -> None:
        pipe = self._processes[slot].stdin
        assert pipe is not None  # PIPE was asked for
        pipe.write(frame(Orders(self._config, self._store_url, slot, self._number)))

    async def _follows(self, slot: int) -> bool:
        process = self._processes[slot]
        yes = applied(self._number)
        answer = await self._answers[slot].first_of(yes, REFUSED + yes, seconds=APPLY_SECONDS)
        return answer == yes or process.returncode is not None


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
