"""The supervisor: keeps the workers and the store going, and shows them to operators.

A worker that dies is replaced. SIGTERM and Ctrl-C drain. SIGHUP reads configuration and rate files again; so does a
rate file that changes. Workers leave by themselves when the supervisor is gone: the pipe on their standard input ends.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from proxy.budgets import BudgetBook, Raises
from proxy.config import Config, changes
from proxy.data_dir import DataDir
from proxy.errors import StoreRefused, TaximeterError, UsageError
from proxy.jobs import Job, run_jobs
from proxy.jobs.backfill import Backfill
from proxy.jobs.notify import Notify
from proxy.jobs.sweeper import Sweeper
from proxy.jobs.trim import Trim
from proxy.ledger import LedgerEntry
from proxy.metrics import Metrics, count_into_files, forget_now
from proxy.server import reloading
from proxy.server.adoption import Adoption
from proxy.server.following import Following
from proxy.server.reloading import Outcome
from proxy.server.rules import build_rules
from proxy.server.tasks import Tasks
from proxy.server.watch import look
from proxy.server.way import check_way
from proxy.server.workers import KILL_SECONDS, Workers
from proxy.settlement import count_entry
from proxy.store import Store, Sweeping
from rates.errors import CatalogueError

if TYPE_CHECKING:
    from aiohttp import web

log = logging.getLogger("taximeter")

STORE_LOOK_SECONDS = 0.5
RATES_LOOK_SECONDS = 1.0  # at the rate files; a change counts when it has stood for one more look
NEEDS_RESTART = (
    "listen",
    "ops_listen",
    "workers",
    "redis_url",
    "data_dir",
    "upstream",
    "upstream_ca_file",
    "store_timeout_ms",
)


class Supervisor:
    """Runs until it is told to stop. `reload` reads the configuration again, and may raise."""

    def __init__(
        self,
        config: Config,
        store_url: str,
        workers: Workers,
        ops_listener: socket.socket,
        *,
        metrics_dir: Path,
        reload: Callable[[], Config],
        on_ready: Callable[[], None],
        revive_store: Callable[[], object] | None = None,
    ) -> None:
        self._config = config
        self._store_url = store_url
        self._ops_listener = ops_listener
        self._metrics_dir = metrics_dir
        self._reload = reload
        self._on_ready = on_ready
        self._revive_store = revive_store
        self._workers = workers
        self._tasks = Tasks()
        self._reading = asyncio.Lock()
        self._data_dir = config.data_dir  # of this life: another one in the configuration needs a restart
        self._jobs: asyncio.Task[None] | None = None
        self._sweeper = Sweeper(Sweeping(store_url, self._presumed))  # it remembers beats, whatever is read again
        self._stopping = asyncio.Event()
        self.serving = False
        self._looked = look(config.rate_files)
        self.book = build_rules(config).book
        self.store: Store
        count_into_files(None)
        self._metrics = Metrics(CollectorRegistry())  # of what no worker lives to count

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain. Raises TaximeterError when it cannot start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        _say_warnings(self._config)
        check_way(self._config)
        self.store = await self._open_store()
        endless: list[asyncio.Task[None]] = []
        ops: web.AppRunner | None = None
        try:
            await self._workers.start(self._config, self._store_url)
            ops = await self._opened_ops()
            await self._workers.wait_ready()
            self._tasks.start(self._workers.keep(), name="workers")
            if self._revive_store is not None:
                self._tasks.start(self._keep_store(self._revive_store), name="embedded store")
            self._tasks.start(self._watch_rate_files(), name="rate files")
            following = Following(self.store, self._follow_raises)
            await following.look()
            endless.append(self._tasks.start(following.run(), name="following"))
            endless.append(self._tasks.start(self._adoption().run(), name="adoption"))
            await self._start_jobs()
            loop.add_signal_handler(signal.SIGHUP, self._hang_up)
            if not self._stopping.is_set():
                self.serving = True
                self._on_ready()
            await self._stopping.wait()
            self.serving = False
        finally:
            self._stopping.set()
            for task in endless:
                task.cancel()
            await self._stop_jobs()
            await self._workers.stop(self._config.drain_seconds)
            await self._tasks.drain(KILL_SECONDS)
            if ops is not None:
                await ops.cleanup()
            await self.store.close(0)

    async def _opened_ops(self) -> "web.AppRunner":
        # Here, because it takes about as long as what the workers do with their orders meanwhile.
        from aiohttp import web  # noqa: PLC0415

        from proxy.server.ops import Ops  # noqa: PLC0415

        runner = web.AppRunner(
            Ops(self, self._metrics_dir).application(), handle_signals=False, access_log=None, shutdown_timeout=1.0
        )
        await runner.setup()
        await web.SockSite(runner, self._ops_listener).start()
        return runner

    def _adoption(self) -> Adoption:
        """In the background: whatever earlier lives have left must not delay this one."""
        adoption = Adoption(
            DataDir(self._data_dir).journals,
            self._store_url,
            timeout=self._config.store_timeout_ms / 1000,
            metrics=self._metrics,
        )

        def worker_died(slot: int) -> None:
            forget_now(self._metrics_dir, slot)
            adoption.look()

        self._workers.on_death = worker_died
        return adoption

    def _hang_up(self) -> None:
        word = reloading.asked_word(self._data_dir)
        self._tasks.start(self._read_again(word), name="reload")

    def _follow_raises(self, raises: Raises) -> None:
        self.book = self.book.with_raises(raises)

    async def _open_store(self) -> Store:
        """The supervisor's own view of the store. One that is away may come back; one that refuses is a mistake."""
        try:
            store = await Store.open(
                self._store_url,
                writer=f"{socket.gethostname()}-{os.getpid()}-ops",
                timeout=self._config.store_timeout_ms / 1000,
                must_answer=False,
                directory=self._data_dir,
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

    def _jobs_to_do(self) -> list[Job]:
        """What runs by the clock under this configuration: they are made anew when it is read again."""
        config = self._config
        return [
            Trim(self.store, days=config.ledger_days, most=config.ledger_max_entries),
            self._sweeper,
            Backfill(self.store, self.book),
            *(Notify(self.store, self.book, receiver) for receiver in config.notify),
        ]

    async def _refuse_trimmed(self, book: BudgetBook) -> None:
        """Raise StoreError when a backfill that would begin now cannot be exact, or nobody can say."""
        known = {(budget.name, budget.period) for budget in self.book.budgets if budget.backfill}
        for budget in book.budgets:
            if budget.backfill and (budget.name, budget.period) not in known:
                await self.store.refuse_trimmed(budget, book.period(budget, datetime.now(UTC)))

    def _presumed(self, entry: LedgerEntry) -> None:
        log.info("the cost of %s is presumed: %s", entry.id, entry.reason)
        count_entry(self._metrics, entry)

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

    async def _read_again(self, word: str | None = None) -> None:
        """SIGHUP or a changed rate file: all of the new configuration, or none of it and why. One at a time.

        `word`: of who asked for it and waits to hear what came of it.
        """
        async with self._reading:
            outcome = await self._apply_again()
        if outcome.problem is None:
            log.info("configuration and rates were read again: %s", "; ".join(outcome.changes) or "no change in them")
        else:
            log.error("%s", outcome.problem)
        if word is not None:
            try:
                reloading.say(self._data_dir, word, outcome)
            except OSError as error:
                log.error("who asked for a reload cannot be told: %s", error)  # noqa: TRY400 - a finding, not a fault

    async def _apply_again(self) -> Outcome:
        self._looked = look(self._config.rate_files)  # before it is read: what changes meanwhile is seen next time
        try:
            config = self._reload()
            self._looked = look(config.rate_files)
            rules = await asyncio.to_thread(build_rules, config)
            await self._refuse_trimmed(rules.book)
        except (TaximeterError, CatalogueError) as error:
            return Outcome(problem=f"nothing was changed: {error}")
        before = self._config
        _say_warnings(config)
        for key in NEEDS_RESTART:
            if getattr(config, key) != getattr(before, key):
                log.warning("%s was changed: that needs a restart", key)
        self._config, self.book = config, rules.book.with_raises(self.book.raises)
        late = await self._workers.follow(config)
        await self._start_jobs()
        if late:
            return Outcome(problem=f"worker {late[0]} did not follow the new configuration: its reason stands above")
        return Outcome(changes=tuple(_with_hint(line) for line in changes(before, config)))


def _say_warnings(config: Config) -> None:
    for warning in config.warnings:
        log.warning("%s", warning)


def _with_hint(change: str) -> str:
    needs_restart = change.partition(":")[0] in NEEDS_RESTART
    return f"{change} (needs a restart)" if needs_restart else change
