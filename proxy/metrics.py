"""Every metric, in one place. Prometheus is a view; the ledger is the truth.

Workers count into files that the supervisor reads together, one file a worker slot, so that the sums stay exact when a
worker is killed. Label values are bounded here: what a client can invent becomes `other`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict

from proxy.config.environment import process_environ
from proxy.tallies import Spread, Tally, Turn, Uses, dollars_of
from rates import ModelName

CLIENT_GONE = 499  # the status of a request whose client left before it had one
OTHER = "other"
MAX_MODELS = 1000
MAX_OWNERS = 1000
MAX_UNPRICED = 100
REFUSALS = ("budget_exceeded", "budget_held", "model_not_priced", "store_unavailable")

_OVERHEAD: Final = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)  # seconds
_WAITS: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 600.0)  # seconds


def count_into_files(slot: int | None) -> None:
    """From now on metrics live in files of this worker slot (in PROMETHEUS_MULTIPROC_DIR). Call before `Metrics`.

    None: the supervisor, which counts what workers did not live to count.
    """
    who = "supervisor" if slot is None else f"w{slot}"
    # The library picks its value class at import; there is no other hook to name the file by slot instead of pid.
    values.ValueClass = values.MultiProcessValue(lambda: who)  # type: ignore[no-untyped-call]
    # The library makes this file with the first value in it, which comes with a request: a full disk must show here.
    latest = Path(process_environ()["PROMETHEUS_MULTIPROC_DIR"], f"gauge_max_{who}.db")
    MmapedDict(str(latest)).close()  # type: ignore[no-untyped-call]


def forget_now(directory: Path, slot: int) -> None:
    """A worker is gone, and so is what was "now" in it; what it counted stays."""
    (directory / f"gauge_sum_w{slot}.db").unlink(missing_ok=True)


@dataclass(slots=True, eq=False)
class Labels:
    """The labels that requests, tokens and cost have in common, with the children that were resolved for them."""

    owner: str
    model: str
    base_model: str
    fine_tuned: str
    requests: dict[tuple[str, int], Tally] = field(default_factory=dict, repr=False)
    uses: Uses | None = field(default=None, repr=False)

    @property
    def values(self) -> tuple[str, str, str, str]:
        return self.owner, self.model, self.base_model, self.fine_tuned


class _Bounded:
    """The first `limit` values keep their names, all later ones become `other`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._seen: set[str] = set()

    def __call__(self, value: str) -> str:
        if value in self._seen:
            return value
        if len(self._seen) >= self._limit:
            return OTHER
        self._seen.add(value)
        return value

    def __contains__(self, value: str) -> bool:
        return value in self._seen


class Metrics:
    """The metrics of one worker. Amounts come in as nanos and leave as dollars."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        owners: Iterable[str] = (),
        at_the_end: Callable[[Callable[[], None]], object] | None = None,
        before_writing: Callable[[], object] | None = None,
        on_written: Callable[[], object] | None = None,
    ) -> None:
        """`at_the_end` has a function called at the end of a turn of the event loop; None: all counts at once.

        `before_writing` is called then, before the files change, and `on_written` when all that was counted so far
        stands in them.
        """

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"taximeter_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, mode: str, *labels: str) -> Gauge:
            return Gauge(f"taximeter_{name}", text, labels, registry=registry, multiprocess_mode=mode)  # type: ignore[arg-type]

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"taximeter_{name}", text, registry=registry, buckets=buckets)

        who = ("owner", "model", "base_model", "fine_tuned")
        self._requests = counter(
            "requests_total", "Requests answered, by HTTP status sent (499: client gone).", *who, "endpoint", "status"
        )
        self._tokens = counter("tokens_total", "Tokens and calls used, by disjoint kind.", *who, "kind")
        self._cost = counter("cost_dollars_total", "Cost in US dollars.", *who)
        self._baseline = counter(
            "baseline_cost_dollars_total", "What the same usage would have cost on the baseline.", "model", "baseline"
        )
        self._unpriced = counter("unpriced_requests_total", "Requests that no rate card prices.", "model")
        self._estimated = counter("estimated_requests_total", "Requests whose tokens were counted here.", "reason")
        self._presumed = counter("presumed_requests_total", "Requests settled without anybody's word on their usage.")
        self._presumed_cost = counter("presumed_cost_dollars_total", "Cost of presumed requests in US dollars.")
        self._refused = counter(
            "refused_requests_total", "Requests refused before they were forwarded.", "budget", "reason"
        )
        self._last_used = gauge("model_last_used_timestamp_seconds", "When a model last answered.", "max", "model")
        self._shutdown = gauge(
            "model_shutdown_timestamp_seconds", "When a model's vendor will stop it.", "max", "model"
        )
        turn = self._turn = Turn(at_the_end, before=before_writing, after=on_written)
        open_streams = gauge("open_streams", "Streams that are open now.", "sum")
        self.spool_entries = gauge("spool_entries", "Settled requests that the store has not applied yet.", "sum")
        self.journal_bytes = gauge("journal_bytes", "Size of the journals on disk.", "sum")
        self.journal_failing = gauge("journal_failing", "Journals that the disk does not take.", "sum")
        self.overhead = Spread(histogram("overhead_seconds", "Time added by taximeter.", _OVERHEAD), turn)
        self.first_token = Spread(
            histogram("time_to_first_token_seconds", "From the request's head to a stream's first byte.", _WAITS), turn
        )
        self.upstream = Spread(histogram("upstream_seconds", "From sending upstream to its last byte.", _WAITS), turn)
        self._labels: dict[tuple[str, str, str, str], Labels] = {}
        self._owners = _Bounded(MAX_OWNERS)
        self._models = _Bounded(MAX_MODELS)
        self._unpriced_ids = _Bounded(MAX_UNPRICED)
        # A slot's file outlives its worker: what is "now" starts afresh.
        for now in (open_streams, self.spool_entries, self.journal_bytes, self.journal_failing):
            now.set(0)
        self.open_streams = Tally(open_streams, turn)
        for owner in owners:
            self._owners(owner)

    def expect_budgets(self, budgets: Iterable[str]) -> None:
        """Series of configured budgets exist from the start, so that a first refusal is an increase."""
        for budget in budgets:
            for reason in REFUSALS:
                self._refused.labels(budget, reason)

    def labels(self, owner: str, name: ModelName | None, *, known: bool) -> Labels:
        """Labels for a model; `known` when a card or a served answer vouches for the id, else it becomes `other`."""
        owner = self._owners(owner)
        if name is None:
            return self._same(owner, OTHER, OTHER, "false")
        fine_tuned = "true" if name.fine_tuned else "false"
        if known or name.text in self._models:
            model = self._models(name.text)
            if model != OTHER:
                return self._same(owner, model, name.base_model, fine_tuned)
        return self._same(owner, OTHER, OTHER, fine_tuned)

    def _same(self, owner: str, model: str, base_model: str, fine_tuned: str) -> Labels:
        """One record for each combination. Bounded, because owners and models are."""
        key = (owner, model, base_model, fine_tuned)
        labels = self._labels.get(key)
        if labels is None:
            labels = self._labels[key] = Labels(*key)
        return labels

    def answered(self, labels: Labels, endpoint: str, status: int) -> None:
        tally = labels.requests.get((endpoint, status))
        if tally is None:
            child = self._requests.labels(*labels.values, endpoint, str(status))
            tally = labels.requests[endpoint, status] = Tally(child, self._turn)
        tally.add(1)

    def used(self, labels: Labels, usage: dict[str, int], nanos: int | None, at: datetime) -> None:
        """Usage, without zeros, and cost of a request that a model answered; None: nobody knows the cost."""
        uses = labels.uses
        if uses is None:
            who = labels.values
            uses = labels.uses = Uses(
                self._turn,
                last_used=self._last_used.labels(labels.model),
                cost=lambda: self._cost.labels(*who),
                tokens=lambda kind: self._tokens.labels(*who, kind),
            )
        uses.add(usage, nanos, at)

    def baseline_cost(self, model: str, baseline: str, nanos: int) -> None:
        self._baseline.labels(model, baseline).inc(dollars_of(nanos))

    def unpriced(self, model: str) -> None:
        self._unpriced.labels(self._unpriced_ids(model)).inc()

    def estimated(self, reason: str) -> None:
        self._estimated.labels(reason).inc()

    def presumed(self, nanos: int) -> None:
        self._presumed.inc()
        self._presumed_cost.inc(dollars_of(nanos))

    def refused(self, budget: str, reason: str) -> None:
        self._refused.labels(budget, reason).inc()

    def shutdown(self, model: str, at: float) -> None:
        self._shutdown.labels(model).set(at)


def declared_families() -> list[Metric]:
    """Every family, without samples."""
    registry = CollectorRegistry()
    Metrics(registry)
    return [Metric(family.name, family.documentation, family.type) for family in registry.collect()]


def dollars(amount: Decimal) -> float:
    """A Decimal for a gauge."""
    return float(amount)
