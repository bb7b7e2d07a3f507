"""Settlement: a reading becomes a charge, an entry, and moves money. Every ending of a request comes through here."""

from collections.abc import Awaitable
from datetime import UTC, datetime, time
from typing import Literal

import msgspec

from proxy.admission import Admitted, Learned, Rules
from proxy.budgets import Account
from proxy.ledger import LedgerEntry, Moved, Parked, Status, kept_id, utc_text
from proxy.metering import Reading
from proxy.metrics import CLIENT_GONE, Labels, Metrics
from proxy.store import Store
from rates import Charge, Found, ModelName, NotPriced, parse_model_name, price
from rates.usage import Usage


class Settled(msgspec.Struct, frozen=True):
    """One priced attempt: its entry, the accounts that it moves, and what metrics need to know."""

    entry: LedgerEntry
    admitted: Admitted
    accounts: tuple[Account, ...]
    labels: Labels
    reading: Reading
    name: ModelName | None
    found: Found | None


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
        rules = admitted.rules
        served = served_id(rules, admitted.asked_model, reading.model)
        name = parse_model_name(served) if served else None
        status: Status = "unpriced" if reading.status == "pending" else reading.status
        reason = reading.reason
        found, charge = None, None
        nanos: int | None = 0
        counted_as: Literal["reported", "estimated", "presumed"] | None = None
        if reading.status == "pending":
            nanos, reason = None, reading.reason
        elif reading.status != "failed":
            try:
                found, charge = _price(rules, name, reading, admitted.at)
                nanos = charge.nanos
            except NotPriced as unpriced:
                nanos, status, reason, counted_as = None, "unpriced", str(unpriced), reading.status
        accounts = _charged(admitted, served, reading.model, name)
        entry = LedgerEntry(
            id=admitted.entry_id,
            at=utc_text(admitted.at),
            owner=admitted.owner.name,
            identity=None if admitted.owner.identity == admitted.owner.name else admitted.owner.identity,
            endpoint=endpoint,
            asked_model=admitted.asked_model,
            served_model=served,
            tier=found.card.tier if found else reading.service_tier or "standard",
            status=status,
            reason=reason,
            counted_as=counted_as,
            usage=reading.usage.as_dict(),
            card=found.card.id if found else None,
            provenance=found.provenance if found else None,
            assumed=reading.encoding_assumed
            or (found is not None and charge is not None and (found.assumed or charge.assumed)),
            long_context=charge.long_context if charge else False,
            cost_nanos=nanos,
            # With 0 where it is free, or its price unknown: a later price moves these.
            moved=()
            if status == "failed"
            else tuple(Moved(each.budget.name, each.key, nanos or 0) for each in accounts),
            upstream_id=reading.upstream_id,
            client_request_id=kept_id(client_request_id),
            upstream_request_id=kept_id(upstream_request_id),
            upstream_status=upstream_status,
            latency_ms=latency_ms,
        )
        # A served answer vouches for a fine-tune's id; a card vouches for a base model's.
        known = found is not None and (not found.card.fine_tuned or reading.model is not None)
        labels = self._metrics.labels(admitted.owner.name, name, known=known)
        return Settled(entry, admitted, accounts, labels, reading, name, found)

    def open(self, admitted: Admitted) -> Awaitable[None] | None:
        """Journal a metered request that is about to be sent. Raises JournalFailed: then it must not be.

        Returns what must be waited for first, if anything; waiting may raise JournalFailed too. Whoever does not send
        it after all calls `release`.
        """
        return self._store.begin(admitted.entry_id)

    def settle(self, settled: Settled, *, parked: bool = False) -> None:
        """Move the money and count it. Never waits; what the store cannot take now, it takes later, in order.

        `parked`: it was set down before, and is charged and counted only if nobody else has done so meanwhile.
        """
        entry, reading = settled.entry, settled.reading
        self._learned.note(entry.asked_model, reading.model)
        if reading.status == "pending":
            self._park(settled)
        elif parked:
            self._store.settle(
                entry,
                settled.accounts,
                parked=reading.upstream_id or "",
                on_charged=lambda: self._count(settled),
            )
        else:
            self._store.settle(entry, settled.accounts)
            self._count(settled)

    def _count(self, settled: Settled) -> None:
        entry, reading, metrics = settled.entry, settled.reading, self._metrics
        if entry.status == "failed":
            return
        at = settled.admitted.at
        metrics.used(settled.labels, reading.usage, at.timestamp())
        if reading.status == "estimated":
            metrics.estimated(reading.reason or "unknown")
        if entry.cost_nanos is None:
            metrics.unpriced(entry.served_model or "")
            return
        if reading.status == "presumed":
            metrics.presumed(entry.cost_nanos)
        metrics.cost(settled.labels, entry.cost_nanos)
        if settled.name is not None and settled.found is not None:
            self._compare(settled, settled.name, settled.found, at)

    def _park(self, settled: Settled) -> None:
        """Its usage comes with another request, to any worker. Until then its hold stays; it is in no ledger."""
        entry, reading, admitted = settled.entry, settled.reading, settled.admitted
        assert admitted.opened is not None  # only metered requests are accepted to be worked on in the background
        kept = Parked(
            entry_id=entry.id,
            at=entry.at,
            owner=admitted.owner.identity,
            endpoint=entry.endpoint,
            asked_model=entry.asked_model,
            client_request_id=entry.client_request_id,
            prompt_tokens=reading.usage.input,
        )
        self._store.park(reading.upstream_id or "", kept, admitted.opened)

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

    def _compare(self, settled: Settled, name: ModelName, found: Found, at: datetime) -> None:
        """What operators watch of a model: the baseline's cost beside a fine-tune's, and when it will be stopped."""
        rules, model = settled.admitted.rules, settled.labels.model
        provider = rules.config.provider
        if model not in self._announced:
            self._announced.add(model)
            if (shutdown := rules.catalogue.shutdown(name, provider)) is not None:
                self._metrics.shutdown(model, datetime.combine(shutdown, time(), UTC).timestamp())
        if not name.fine_tuned:
            return
        baseline = rules.config.baseline.get(settled.entry.served_model or "", name.base)
        try:
            compared = rules.find(parse_model_name(baseline), found.card.tier, at)
            nanos = price(settled.reading.usage, compared.card).nanos
        except NotPriced:
            return  # an unknown baseline is not a free one: it has no series
        self._metrics.baseline_cost(model, baseline, nanos)


def count_entry(metrics: Metrics, entry: LedgerEntry) -> None:
    """Count an entry after whoever would have counted it was gone."""
    name = parse_model_name(entry.served_model) if entry.served_model else None
    known = entry.card is not None and name is not None and (not name.fine_tuned or entry.status == "reported")
    labels = metrics.labels(entry.owner, name, known=known)
    if entry.status != "presumed":  # else nobody lived to answer
        metrics.answered(labels, entry.endpoint, entry.upstream_status or CLIENT_GONE)
    if entry.status == "failed":
        return
    metrics.used(labels, Usage.of(entry.usage), datetime.fromisoformat(entry.at).timestamp())
    if entry.status == "estimated":
        metrics.estimated(entry.reason or "unknown")
    if entry.cost_nanos is None:
        metrics.unpriced(entry.served_model or "")
        return
    if entry.status == "presumed":
        metrics.presumed(entry.cost_nanos)
    metrics.cost(labels, entry.cost_nanos)


def served_id(rules: Rules, asked: str | None, served: str | None) -> str | None:
    """The id that prices. A deployment that the `[models]` table knows decides, whatever the response calls it."""
    models = rules.config.models
    if asked is not None and asked in models:
        return models[asked]
    if served is not None:
        return models.get(served, served)
    return asked


def _charged(
    admitted: Admitted, served: str | None, response_model: str | None, name: ModelName | None
) -> tuple[Account, ...]:
    """The accounts that the asked and the served names match, in the periods of the request's start.

    Not those frozen at admission: some were matched by a guess of the served name, and a served name that nobody
    guessed may match others.
    """
    names = [each for each in (admitted.asked_model, served, response_model) if each]
    return admitted.rules.book.matching(admitted.owner, names, name.fine_tuned if name else None, admitted.at)


def _price(rules: Rules, name: ModelName | None, reading: Reading, at: datetime) -> tuple[Found, Charge]:
    if name is None:
        raise NotPriced("neither the request nor the response names a model")
    found = rules.find(name, reading.service_tier, at)
    return found, price(reading.usage, found.card)
