"""The supervisor: opens one listening socket, starts the store and the workers on it, and shows them to operators.

A worker that dies is replaced. SIGTERM and Ctrl-C drain. SIGHUP reads configuration and rate files again; so does a
rate file that changes. Workers leave by themselves when the supervisor is gone: the pipe on their standard input ends.
"""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from proxy.config import Address, Config
from proxy.config.environment import process_environ
from proxy.errors import StoreRefused, TaximeterError, UsageError
from proxy.jobs import Job, run_jobs
from proxy.jobs.trim import Trim
from proxy.server.control import Orders, frame
from proxy.server.ops import Ops
from proxy.server.rules import build_rules
from proxy.server.tasks import Tasks
from proxy.server.watch import look
from proxy.server.worker import BACKLOG, READY
from proxy.store import Store
from rates.errors import CatalogueError

log = logging.getLogger("taximeter")

START_SECONDS = 30.0
KILL_SECONDS = 10.0  # beyond drain_seconds, before a worker that does not end is killed
CRASH_PAUSE = 1.0  # a worker that dies at once must not be restarted in a tight loop
STORE_LOOK_SECONDS = 0.5
RATES_LOOK_SECONDS = 1.0  # at the rate files; a change counts when it has stood for one more look
NEEDS_RESTART = ("listen", "ops_listen", "workers", "redis_url", "data_dir", "upstream", "store_timeout_ms")


def bind(address: Address, flag: str) -> socket.socket:
    """A listening socket. Raises UsageError, which names the flag, when the address cannot be had."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        raise UsageError(f"cannot listen on {address}: {reason}; choose another address with {flag}") from error
    listener.setblocking(False)
    return listener


class Supervisor:
    """Runs until it is told to stop. `reload` reads the configuration again, and may raise."""

    def __init__(
        self,
        config: Config,
        store_url: str,
        listener: socket.socket,
        ops_listener: socket.socket,
        *,
        metrics_dir: Path,
        reload: Callable[[], Config],
        on_ready: Callable[[], None],
        revive_store: Callable[[], object] | None = None,
    ) -> None:
        self._config = config
        self._store_url = store_url
        self._listener = listener
        self._ops_listener = ops_listener
        self._metrics_dir = metrics_dir
        self._reload = reload
        self._on_ready = on_ready
        self._revive_store = revive_store
        self._workers: dict[int, Process] = {}
        self._tasks = Tasks()
        self._jobs: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self.serving = False
        self._looked = look(config.rate_files)
        self.book = build_rules(config).book
        self.store: Store

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain. Raises TaximeterError when it cannot start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._tasks.start(self._read_again(), name="reload"))
        self._clean_metrics()
        self.store = await self._open_store()
        first = [await self._spawn(slot) for slot in range(self._config.workers)]
        runner = web.AppRunner(
            Ops(self, self._metrics_dir).application(), handle_signals=False, access_log=None, shutdown_timeout=1.0
        )
        await runner.setup()
        await web.SockSite(runner, self._ops_listener).start()
        try:
            await self._wait_ready(first)
            for slot in range(self._config.workers):
                self._tasks.start(self._keep(slot), name=f"worker {slot}")
            if self._revive_store is not None:
                self._tasks.start(self._keep_store(self._revive_store), name="embedded store")
            self._tasks.start(self._watch_rate_files(), name="rate files")
            await self._start_jobs()
            if not self._stopping.is_set():
                self.serving = True
                self._on_ready()
            await self._stopping.wait()
            self.serving = False
        finally:
            self._stopping.set()
            await self._stop_jobs()
            await self._stop_workers()
            await self._tasks.drain(KILL_SECONDS)
            await runner.cleanup()
            await self.store.close(0)

    async def _open_store(self) -> Store:
        """The supervisor's own view of the store. One that is away may come back; one that refuses is a mistake."""
        try:
            store = await Store.open(
                self._store_url,
                writer=f"{socket.gethostname()}-{os.getpid()}-ops",
                timeout=self._config.store_timeout_ms / 1000,
                must_answer=False,
            )
        except StoreRefused as error:
            raise UsageError(str(error)) from error
        if not store.is_connected:
            log.warning(
                "the store %s is away: requests flow and are settled when it comes back, "
                'but for budgets with on_store_loss = "refuse"',
                store.shown_url,
            )
        return store

    def _clean_metrics(self) -> None:
        """Counters start at zero with the supervisor; Prometheus knows a reset when it sees one."""
        shutil.rmtree(self._metrics_dir, ignore_errors=True)
        self._metrics_dir.mkdir(parents=True, mode=0o700)

    async def _spawn(self, slot: int) -> int:
        """Start a worker; returns the end of a pipe on which it says that it is ready."""
        ready, told = os.pipe()
        try:
            worker = await asyncio.create_subprocess_exec(
                # -P: a folder named `proxy` where the command was called must not take our place.
                *(sys.executable, "-P", "-m", "proxy.server.worker", str(self._listener.fileno()), str(told)),
                stdin=asyncio.subprocess.PIPE,
                pass_fds=(self._listener.fileno(), told),
                env={**process_environ(), "PROMETHEUS_MULTIPROC_DIR": str(self._metrics_dir)},
            )
        except OSError:
            os.close(ready)
            raise
        finally:
            os.close(told)
        self._workers[slot] = worker
        self._send(worker, Orders(self._config, self._store_url, slot))
        return ready

    def _send(self, worker: Process, orders: Orders) -> None:
        assert worker.stdin is not None  # PIPE was asked for
        worker.stdin.write(frame(orders))

    async def _wait_ready(self, pipes: list[int]) -> None:
        for ready in pipes:
            if not await _said_ready(ready):
                raise TaximeterError("a worker did not start: its reason stands above")

    async def _keep(self, slot: int) -> None:
        """Replace the slot's worker whenever it dies."""
        while True:
            worker, started = self._workers[slot], time.monotonic()
            code = await worker.wait()
            if self._stopping.is_set():
                return
            log.error("worker %d (pid %d) ended with %s: it is replaced", slot, worker.pid, _ending(code))
            if time.monotonic() - started < CRASH_PAUSE:
                await asyncio.sleep(CRASH_PAUSE)
                if self._stopping.is_set():
                    return
            ready = await self._spawn(slot)
            if not await _said_ready(ready):
                log.error("the new worker %d did not become ready", slot)

    async def _keep_store(self, revive: Callable[[], object]) -> None:
        """The embedded store is ours to start again when it dies; meanwhile requests flow and settlements wait."""
        said = ""
        while not self._stopping.is_set():
            await asyncio.sleep(STORE_LOOK_SECONDS)
            if self.store.is_connected or self._stopping.is_set():
                continue
            try:
                await asyncio.to_thread(revive)
            except TaximeterError as error:
                if str(error) != said:
                    said = str(error)
                    log.error("%s", said)  # noqa: TRY400 - a finding, not a fault

    async def _stop_workers(self) -> None:
        workers = list(self._workers.values())
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

    def _jobs_to_do(self) -> list[Job]:
        """What runs by the clock under this configuration: they are made anew when it is read again."""
        config = self._config
        return [Trim(self.store, days=config.ledger_days, most=config.ledger_max_entries)]

    async def _start_jobs(self) -> None:
        await self._stop_jobs()
        if not self._stopping.is_set() and (jobs := self._jobs_to_do()):
            self._jobs = self._tasks.start(run_jobs(self.store, jobs), name="jobs")

    async def _stop_jobs(self) -> None:
        jobs, self._jobs = self._jobs, None
        if jobs is not None:
            jobs.cancel()
            await asyncio.wait((jobs,))

    async def _watch_rate_files(self) -> None:
        """A rate file that was changed is read like on SIGHUP, once it has stood still: editors write in pieces."""
        last = self._looked
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RATES_LOOK_SECONDS):
                    await self._stopping.wait()
            now = look(self._config.rate_files)
            if now == last and now != self._looked and not self._stopping.is_set():
                await self._read_again()
            last = now

    async def _read_again(self) -> None:
        """SIGHUP or a changed rate file: all of the new configuration, or none of it and why."""
        self._looked = look(self._config.rate_files)  # before it is read: what changes meanwhile is seen next time
        try:
            config = self._reload()
            self._looked = look(config.rate_files)
            rules = build_rules(config)
        except (TaximeterError, CatalogueError) as error:
            log.error("nothing was changed: %s", error)  # noqa: TRY400 - a finding, not a fault
            return
        for key in NEEDS_RESTART:
            if getattr(config, key) != getattr(self._config, key):
                log.warning("%s was changed: that needs a restart", key)
        self._config, self.book = config, rules.book
        for slot, worker in self._workers.items():
            if worker.returncode is None:
                self._send(worker, Orders(config, self._store_url, slot))
        await self._start_jobs()
        log.info("configuration and rates were read again")


async def _said_ready(pipe: int) -> bool:
    """Whether a worker said that it is ready before its pipe ended. Closes the pipe."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb"))
    try:
        async with asyncio.timeout(START_SECONDS):
            return await reader.read(len(READY)) == READY
    except TimeoutError:
        return False
    finally:
        transport.close()


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
