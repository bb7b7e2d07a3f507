"""Settlement: a reading becomes a charge, an entry, and moves money. Every ending of a request comes through here."""

from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime, time

from proxy.admission import Admitted, Learned
from proxy.budgets import Account
from proxy.ledger import LedgerEntry, LineText, Moved, Parked, Status, kept_id, utc_text
from proxy.metering import Reading
from proxy.metrics import CLIENT_GONE, Labels, Metrics
from proxy.plans import Rules
from proxy.store import Store
from proxy.terms import Terms, served_id, terms_of
from rates import NotPriced, Prices, parse_model_name
from rates.usage import Usage

__all__ = ["Settled", "Settlement", "count_entry", "served_id"]


class Settled:
    """One priced attempt: its line, the accounts that it moves, and what metrics need to know."""

    __slots__ = ("admitted", "cost_nanos", "labels", "line", "reading", "status", "terms", "usage")

    def __init__(
        self,
        line: LedgerEntry | LineText,
        admitted: Admitted,
        reading: Reading,
        terms: Terms,
        labels: Labels,
        status: Status,
        cost_nanos: int | None,
        usage: dict[str, int],
    ) -> None:
        self.line = line
        self.admitted = admitted
        self.reading = reading
        self.terms = terms
        self.labels = labels
        self.status = status
        self.cost_nanos = cost_nanos
        self.usage = usage

    @property
    def entry(self) -> LedgerEntry:
        line = self.line
        return line.entry if isinstance(line, LineText) else line

    @property
    def accounts(self) -> tuple[Account, ...]:
        return self.terms.accounts


class Settlement:
    """Prices readings and hands the entries to the store."""

    def __init__(self, store: Store, metrics: Metrics, learned: Learned) -> None:
        self._store = store
        self._metrics = metrics
        self._learned = learned
        self._announced: set[str] = set()

    def charge(
        self,
        admitted: Admitted,
        endpoint: str,
        reading: Reading,
        *,
        upstream_status: int | None,
        client_request_id: str | None,
        latency_ms: int | None,
        upstream_request_id: str | None = None,
    ) -> Settled:
        """Price a reading. Nothing is moved yet: see `settle`."""
        terms, owner = terms_of(self._metrics, admitted, endpoint, reading), admitted.owner.name
        usage = reading.usage.as_dict()
        client_request_id, upstream_request_id = kept_id(client_request_id), kept_id(upstream_request_id)
        reason = terms.reason
        counted_as = terms.counted_as
        if terms.form is not None and terms.prices is not None and counted_as is not None:
            try:
                priced = terms.prices.of(usage)
            except NotPriced as unpriced:
                reason = str(unpriced)
            else:
                line = terms.form.line(
                    admitted.entry_id,
                    admitted.at_text or utc_text(admitted.at),
                    usage,
                    priced.nanos,
                    assumed=reading.encoding_assumed or terms.assumed or priced.assumed,
                    long_context=priced.long_context,
                    upstream_id=reading.upstream_id,
                    client_request_id=client_request_id,
                    upstream_request_id=upstream_request_id,
                    upstream_status=upstream_status,
                    latency_ms=latency_ms,
                )
                labels = terms.labels(owner, priced=True)
                return Settled(line, admitted, reading, terms, labels, counted_as, priced.nanos, usage)
        failed = reading.status == "failed"
        status: Status = "failed" if failed else "unpriced"
        nanos = 0 if failed else None
        entry = LedgerEntry(
            id=admitted.entry_id,
            at=utc_text(admitted.at),
            owner=owner,
            identity=None if admitted.owner.identity == owner else admitted.owner.identity,
            endpoint=endpoint,
            asked_model=admitted.asked_model,
            served_model=terms.served,
            tier=reading.service_tier or "standard",
            status=status,
            reason=reason,
            counted_as=counted_as,
            usage=usage,
            card=None,
            provenance=None,
            assumed=reading.encoding_assumed,
            cost_nanos=nanos,
            # With 0, its price being unknown: a later price moves these.
            moved=() if failed else tuple(Moved(each.budget.name, each.key, 0) for each in terms.accounts),
            upstream_id=reading.upstream_id,
            client_request_id=client_request_id,
            upstream_request_id=upstream_request_id,
            upstream_status=upstream_status,
            latency_ms=latency_ms,
        )
        return Settled(entry, admitted, reading, terms, terms.labels(owner, priced=False), status, nanos, usage)

    def open(self, admitted: Sequence[Admitted]) -> Awaitable[None] | None:
        """Journal metered requests that are about to be sent. Raises JournalFailed: then none of them must be.

        Returns what must be waited for first, if anything; waiting may raise JournalFailed too. Whoever does not send
        one of them after all calls `release`.
        """
        return self._store.begin([each.entry_id for each in admitted])

    def settle(self, settled: Settled, *, parked: bool = False) -> None:
        """Move the money and count it. Never waits; what the store cannot take now, it takes later, in order.

        `parked`: it was set down before, and is charged and counted only if nobody else has done so meanwhile.
        """
        reading, terms = settled.reading, settled.terms
        self._learned.note(settled.admitted.asked_model, reading.model)
        if reading.status == "pending":
            self._park(settled)
        elif parked:
            self._store.settle(
                settled.entry,
                terms.accounts,
                parked=reading.upstream_id or "",
                on_charged=lambda: self._count(settled),
            )
        else:
            self._store.settle(settled.line, terms.accounts)
            self._count(settled)

    def _count(self, settled: Settled) -> None:
        if settled.status == "failed":
            return
        reading, terms, metrics = settled.reading, settled.terms, self._metrics
        cost = settled.cost_nanos
        labels = settled.labels
        metrics.used(labels, settled.usage, cost, settled.admitted.at)
        if reading.status == "estimated":
            metrics.estimated(reading.reason or "unknown")
        if cost is None:
            metrics.unpriced(terms.served or "")
            return
        if reading.status == "presumed":
            metrics.presumed(cost)
        if labels.model not in self._announced:
            self._announce(settled)
        if terms.baseline_prices is not None:
            self._compare(settled, terms.baseline_prices)

    def _park(self, settled: Settled) -> None:
        """Its usage comes with another request, to any worker. Until then its hold stays; it is in no ledger."""
        entry, reading, admitted = settled.entry, settled.reading, settled.admitted
        opened = admitted.opened
        assert opened is not None  # only metered requests are accepted to be worked on in the background
        kept = Parked(
            entry_id=entry.id,
            at=entry.at,
            owner=admitted.owner.identity,
            endpoint=entry.endpoint,
            asked_model=entry.asked_model,
            client_request_id=entry.client_request_id,
            prompt_tokens=reading.usage.input,
        )
        self._store.park(reading.upstream_id or "", kept, opened)

    def release(self, admitted: Admitted) -> None:
        """Nothing reached the upstream: the money that was set aside is free again."""
        self._store.release(admitted.entry_id)

    def labels_of(self, admitted: Admitted) -> Labels:
        """Labels of a request that has no reading: its asked name, where a card knows it as it stands."""
        return self.labels(admitted.rules, admitted.owner.name, admitted.asked_model)

    def labels(self, rules: Rules, owner: str, asked: str | None) -> Labels:
        if not asked:
            return self._metrics.labels(owner, None, known=False)
        name = parse_model_name(rules.config.models.get(asked, asked))
        known = not name.fine_tuned and rules.catalogue.knows(name, rules.config.provider)
        return self._metrics.labels(owner, name, known=known)

    def _announce(self, settled: Settled) -> None:
        """When a model's vendor will stop it."""
        model, name, rules = settled.labels.model, settled.terms.name, settled.admitted.rules
        if name is None:
            return
        self._announced.add(model)
        if (shutdown := rules.catalogue.shutdown(name, rules.config.provider)) is not None:
            self._metrics.shutdown(model, datetime.combine(shutdown, time(), UTC).timestamp())

    def _compare(self, settled: Settled, prices: Prices) -> None:
        """The baseline's cost beside a fine-tune's."""
        try:
            nanos = prices.of(settled.usage).nanos
        except NotPriced:
            return
        self._metrics.baseline_cost(settled.labels.model, settled.terms.baseline, nanos)


def count_entry(metrics: Metrics, entry: LedgerEntry) -> None:
    """Count an entry after whoever would have counted it was gone."""
    name = parse_model_name(entry.served_model) if entry.served_model else None
    known = entry.card is not None and name is not None and (not name.fine_tuned or entry.status == "reported")
    labels = metrics.labels(entry.owner, name, known=known)
    if entry.status != "presumed":  # else nobody lived to answer
        metrics.answered(labels, entry.endpoint, entry.upstream_status or CLIENT_GONE)
    if entry.status == "failed":
        return
    usage = Usage.of(entry.usage).as_dict()
    metrics.used(labels, usage, entry.cost_nanos, datetime.fromisoformat(entry.at))
    if entry.status == "estimated":
        metrics.estimated(entry.reason or "unknown")
    if entry.cost_nanos is None:
        metrics.unpriced(entry.served_model or "")
    elif entry.status == "presumed":
        metrics.presumed(entry.cost_nanos)
