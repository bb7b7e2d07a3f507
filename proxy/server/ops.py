"""The ops port: /metrics of all workers together with the budgets as the store has them now, /healthz and /readyz."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Protocol

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from proxy.budgets import BudgetBook
from proxy.errors import StoreError
from proxy.metrics import declared_families, dollars
from proxy.store import Standing, Store
from rates.money import to_usd

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PROBE_SECONDS = 1.0
_PREFIX = "taximeter_budget_"


class State(Protocol):
    """What the supervisor knows of itself."""

    @property
    def serving(self) -> bool: ...
    @property
    def book(self) -> BudgetBook: ...
    @property
    def store(self) -> Store: ...


class _Brief(logging.Filter):
    """A client that sends malformed HTTP gets its 400; it is no fault of ours, and must not fill the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


logging.getLogger("aiohttp.server").addFilter(_Brief())


class Ops:
    """Handlers of the ops port."""

    def __init__(self, state: State, metrics_dir: Path) -> None:
        self._state = state
        self._metrics_dir = metrics_dir
        self._declared = declared_families()

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_get("/metrics", self.metrics)
        application.router.add_get("/healthz", self.healthz)
        application.router.add_get("/readyz", self.readyz)
        return application

    async def healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(self, _request: web.Request) -> web.Response:
        if not self._state.serving:
            return web.Response(status=503, text="starting or draining\n")
        strict = [b.name for b in self._state.book.budgets if b.refuses and b.on_store_loss == "refuse"]
        if strict and not await self._store_answers():
            return web.Response(status=503, text=f"the store is away, and budget {strict[0]} refuses without it\n")
        return web.Response(text="ready\n")

    async def metrics(self, _request: web.Request) -> web.Response:
        standings: Sequence[Standing] = ()
        up = True
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                standings = await self._state.store.standings(self._state.book, datetime.now(UTC))
                up = await self._state.store.ping()
        except (StoreError, TimeoutError):
            up = False
        registry = CollectorRegistry()
        counted = self._counted()
        present = {family.name for family in counted}
        # A metric is announced before it is first counted, so that a query of it finds a type and no typing error.
        counted += [family for family in self._declared if family.name not in present]
        of_store = (_store_up(up), *_store_state(self._state.store), *(budget_gauges(standings) if up else ()))
        registry.register(_Fixed([*counted, *of_store]))
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE})

    def _counted(self) -> list[Metric]:
        """What all workers have counted. A file may go meanwhile, with its worker: then it is looked for again."""
        while True:
            with suppress(FileNotFoundError):
                # A file that a worker is just making is empty for a moment, and the library trips over it.
                files = [str(file) for file in self._metrics_dir.glob("*.db") if file.stat().st_size]
                return list(MultiProcessCollector.merge(files))  # type: ignore[no-untyped-call]

    async def _store_answers(self) -> bool:
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                return await self._state.store.ping()
        except (StoreError, TimeoutError):
            return False


class _Fixed:
    """A collector of metrics that were made already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def _store_up(up: bool) -> Metric:
    return GaugeMetricFamily("taximeter_store_up", "Whether the store answers.", value=1.0 if up else 0.0)


def _store_state(store: Store) -> Iterable[Metric]:
    yield GaugeMetricFamily(
        "taximeter_store_wiped",
        "Whether the store is not the one that was here before, and nobody has acknowledged it.",
        value=1.0 if store.is_wiped else 0.0,
    )
    yield GaugeMetricFamily(
        "taximeter_set_aside_entries", "Ledger entries that the store rejects for ever.", value=float(store.set_aside)
    )


def budget_gauges(standings: Iterable[Standing]) -> list[Metric]:
    """The gauges of the contract. `owner` is a label only of budgets that hold for each owner apart."""

    def family(name: str, text: str) -> Metric:
        return Metric(_PREFIX + name, text, "gauge")

    limit = family("limit_dollars", "The limit of a budget.")
    spent = family("spent_dollars", "What was charged to a budget in its running period.")
    held = family("held_dollars", "What requests under way have set aside.")
    used = family("used_ratio", "Spent divided by limit.")
    alert_at = family("alert_at_ratio", "The thresholds at which a budget alerts.")
    reset = family("reset_timestamp_seconds", "When the running period ends.")
    for standing in standings:
        budget, period = standing.account.budget, standing.account.period
        labels = {"budget": budget.name, "period": str(budget.period)}
        if standing.account.owner_identity is not None:
            labels["owner"] = standing.owner_name or standing.account.owner_identity
        for metric, amount in ((limit, budget.limit), (spent, standing.spent), (held, standing.held)):
            metric.add_sample(metric.name, labels, dollars(to_usd(amount)))
        if budget.limit:  # of a limit of zero no share is known
            used.add_sample(used.name, labels, dollars(Decimal(standing.spent) / Decimal(budget.limit)))
        for threshold in budget.alert_at:
            alert_at.add_sample(
                alert_at.name, {**labels, "threshold": format(threshold.normalize(), "f")}, dollars(threshold)
            )
        if period.end is not None:
            reset.add_sample(reset.name, labels, period.end.timestamp())
    return [limit, spent, held, used, alert_at, reset]
