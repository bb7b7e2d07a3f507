"""A worker: a process that serves requests on the socket it was given, until it is told to stop or orphaned."""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from dataclasses import replace

import uvloop
from prometheus_client import CollectorRegistry

from proxy.admission import Admission, Learned, Rules
from proxy.background import Background
from proxy.budgets import Raises
from proxy.config.environment import process_environ
from proxy.deadlines import Deadlines
from proxy.errors import TaximeterError
from proxy.journal import Journal
from proxy.metrics import Metrics, count_into_files
from proxy.server.caller import Callers
from proxy.server.control import READY, REFUSED, End, Frames, Orders, applied, read_frame, tell
from proxy.server.counting import Counting
from proxy.server.desk import Desk
from proxy.server.following import Following
from proxy.server.forward import Forwarder
from proxy.server.listener import Listener
from proxy.server.logs import log_to_stderr
from proxy.server.rules import build_rules
from proxy.server.sockets import BACKLOG
from proxy.server.tasks import Tasks
from proxy.settlement import Settlement
from proxy.store import DataDir, Store
from proxy.upstream import Upstream
from rates.errors import CatalogueError, RatesError

log = logging.getLogger("taximeter")

GAUGE_SECONDS = 0.5
LAST_COUNTS_SECONDS = 5.0  # for estimates under way at the end; then they are made roughly


def main() -> None:
    """Orders come on standard input. The other pipe, for answers, is the worker's life: it ends with it."""
    listen_fd, answers = int(sys.argv[1]), int(sys.argv[2])
    log_to_stderr()
    orders = read_frame(sys.stdin.fileno())
    if orders is None:
        return
    try:
        uvloop.run(_serve(orders, socket.socket(fileno=listen_fd), answers))
    except (TaximeterError, RatesError) as error:
        log.error("worker %d cannot serve: %s", orders.slot, error)  # noqa: TRY400 - a finding, not a fault
        sys.exit(1)


async def _serve(orders: Orders, listener: socket.socket, answers: int) -> None:
    config = orders.config
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)

    count_into_files(orders.slot)
    rules = build_rules(config)
    data_dir = DataDir(config.data_dir)
    writer = f"{data_dir.proxy_id()}-{orders.slot}-{os.urandom(3).hex()}"  # one for each life of a worker
    journal = Journal.create(data_dir.journals, writer)
    metrics = Metrics(
        CollectorRegistry(), at_the_end=loop.call_soon, before_writing=journal.retry, on_written=journal.counted
    )
    metrics.expect_budgets(budget.name for budget in config.budgets)
    store = await Store.open(
        orders.store_url,
        writer=writer,
        timeout=config.store_timeout_ms / 1000,
        must_answer=False,
        journal=journal,
        directory=data_dir.path,
    )
    deadlines = Deadlines(loop)
    upstream = Upstream(
        config.upstream,
        connect_seconds=config.connect_timeout_seconds,
        silence_seconds=config.upstream_timeout_seconds,
        deadlines=deadlines,
        environ=process_environ(),
        ca_file=config.upstream_ca_file,
    )
    tasks, counting, learned = Tasks(), Counting(), Learned()
    settlement = Settlement(store, metrics, learned)
    callers = Callers(store)
    desk = Desk(loop, upstream=upstream, settlement=settlement, counting=counting, metrics=metrics, deadlines=deadlines)
    forwarder = Forwarder(
        rules,
        desk,
        admission=Admission(store, learned),
        background=Background(store, settlement),
        callers=callers,
        tasks=tasks,
    )
    door = Listener(forwarder, deadlines)
    await door.listen(listener, BACKLOG)

    orders_task = tasks.start(_follow_orders(forwarder, metrics, stopping, answers), name="orders")
    following = Following(store, lambda raises: _apply(forwarder, forwarder.rules, raises), callers.looked)
    await following.look()
    following_task = tasks.start(following.run(), name="following")
    gauge_task = tasks.start(_show_spool(store, journal, metrics), name="spool gauge")
    _spare_the_collector()
    tell(answers, READY)
    # After all that must be fast, and before the first request for a model that only an imported card knows.
    tasks.start(asyncio.to_thread(rules.catalogue.imported, config.provider), name="imported cards")

    await stopping.wait()
    orders_task.cancel()
    gauge_task.cancel()
    following_task.cancel()
    late = await door.drain(config.drain_seconds)
    late += await forwarder.drain(config.drain_seconds)
    await tasks.drain(config.drain_seconds)
    if late:
        log.warning("%d requests were cut off after drain_seconds = %g", late, config.drain_seconds)
    await counting.close(LAST_COUNTS_SECONDS)
    await upstream.close()
    deadlines.close()
    unapplied = await store.close(config.drain_seconds)
    metrics.spool_entries.set(unapplied)
    if unapplied:
        log.warning("%d settlements did not reach the store; the journal keeps them for the next start", unapplied)


def _spare_the_collector() -> None:
    """What is here now stays. A request makes few cycles: they are looked for seldom, not every few requests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def _follow_orders(forwarder: Forwarder, metrics: Metrics, stopping: asyncio.Event, answers: int) -> None:
    """New rules when they come, and say so; stop when the supervisor is gone."""
    frames = Frames()
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), End(sys.stdin.fileno()))
    while data := await reader.read(65536):
        for orders in frames.feed(data):
            try:
                # In a thread: reading thousands of cards must not make a stream wait.
                rules = await asyncio.to_thread(build_rules, orders.config)
                await asyncio.to_thread(rules.catalogue.imported, orders.config.provider)
                _apply(forwarder, rules, forwarder.rules.book.raises)
            except (CatalogueError, TaximeterError) as error:
                log.error("the rules stay as they were: %s", error)  # noqa: TRY400 - a finding, not a fault
                tell(answers, REFUSED + applied(orders.number))
                continue
            metrics.expect_budgets(budget.name for budget in orders.config.budgets)
            tell(answers, applied(orders.number))
    stopping.set()


def _apply(forwarder: Forwarder, rules: Rules, raises: Raises) -> None:
    """Swap the rules as a whole: those of the configuration with the raises of the store."""
    forwarder.rules = replace(rules, book=rules.book.with_raises(raises))


async def _show_spool(store: Store, journal: Journal, metrics: Metrics) -> None:
    while True:
        metrics.spool_entries.set(store.waiting)
        metrics.journal_bytes.set(journal.disk_bytes)
        journal.retry()
        metrics.journal_failing.set(journal.is_failing)
        await asyncio.sleep(GAUGE_SECONDS)
