"""Terms: what is found once for requests that are alike and end alike, and how each of them is charged.

They lie with the plan of these requests, and are good for a span of time of their own: the served model may have other
cards and other budgets than the asked one.
"""

from datetime import datetime
from typing import Final, Literal

from proxy.admission import Admitted
from proxy.budgets import Account
from proxy.ledger import LineForm
from proxy.metering import Reading
from proxy.metrics import Labels, Metrics
from proxy.plans import Rules, Span
from rates import Found, ModelName, NotPriced, Prices, parse_model_name, prices_of

CountedAs = Literal["reported", "estimated", "presumed"]
_COUNTED_AS: Final[dict[str, CountedAs]] = {"reported": "reported", "estimated": "estimated", "presumed": "presumed"}
_TERMS_KEPT: Final = 16  # of each plan: like requests end in few ways


class Terms:
    """How attempts of like requests that end alike are charged. Good for `[start, end)`; priced where it has a form."""

    __slots__ = (
        "_is_known", "_labels", "accounts", "assumed", "baseline", "baseline_prices", "counted_as", "end", "form",
        "is_kept", "metrics", "name", "prices", "reason", "served", "start",
    )  # fmt: skip

    def __init__(self, metrics: Metrics, admitted: Admitted, endpoint: str, reading: Reading) -> None:
        rules, at = admitted.rules, admitted.at
        span = Span()
        self.metrics = metrics
        """Whose labels these are."""
        self.served = served_id(rules, admitted.asked_model, reading.model)
        name = self.name = parse_model_name(self.served) if self.served else None
        self.reason = reading.reason
        found: Found | None = None
        self.counted_as = _COUNTED_AS.get(reading.status)
        if self.counted_as is not None:
            try:
                found = _find(rules, name, reading.service_tier, at, span)
            except NotPriced as unpriced:
                self.reason = str(unpriced)
        self.accounts = _charged(admitted, self.served, reading.model, name)
        span.within_periods(self.accounts)
        # A served answer vouches for a fine-tune's id; a card vouches for a base model's.
        self._is_known = found is not None and (not found.card.fine_tuned or reading.model is not None)
        self._labels: Labels | None = None
        self.form: LineForm | None = None
        self.prices: Prices | None = None
        self.assumed = found is not None and found.assumed
        self.baseline = ""
        self.baseline_prices: Prices | None = None
        if found is not None and name is not None and self.counted_as is not None:
            self.prices = prices_of(found.card)
            self.form = LineForm(
                owner=admitted.owner.name,
                identity=admitted.owner.identity,
                endpoint=endpoint,
                asked_model=admitted.asked_model,
                served_model=self.served,
                tier=found.card.tier,
                status=self.counted_as,
                reason=reading.reason,
                card=found.card.id,
                provenance=found.provenance,
                moved=[(each.budget.name, each.key) for each in self.accounts],
            )
            if name.fine_tuned:
                self.baseline = rules.config.baseline.get(self.served or "", name.base)
                try:
                    compared = _find(rules, parse_model_name(self.baseline), found.card.tier, at, span)
                    self.baseline_prices = prices_of(compared.card)
                except NotPriced:
                    pass  # an unknown baseline is not a free one: it has no series
        self.start, self.end = span.start, span.end
        # An id that nobody vouches for may come to be known: then its labels are others.
        self.is_kept = self.form is not None and self._is_known

    def labels(self, owner: str, *, priced: bool) -> Labels:
        """Labels of an attempt: without a price nobody vouches for its model."""
        if not priced:
            return self.metrics.labels(owner, self.name, known=False)
        if self._labels is None:
            self._labels = self.metrics.labels(owner, self.name, known=self._is_known)
        return self._labels


def terms_of(metrics: Metrics, admitted: Admitted, endpoint: str, reading: Reading) -> Terms:
    """Found once for like requests that end alike, and kept with their plan."""
    plan = admitted.plan
    if plan is None:
        return Terms(metrics, admitted, endpoint, reading)
    key = (reading.model, reading.service_tier, reading.status, reading.reason, endpoint)
    terms = plan.terms.get(key)
    if isinstance(terms, Terms) and terms.metrics is metrics and terms.start <= admitted.at < terms.end:
        return terms
    terms = Terms(metrics, admitted, endpoint, reading)
    if terms.is_kept:
        if len(plan.terms) >= _TERMS_KEPT:
            plan.terms.clear()
        plan.terms[key] = terms
    return terms


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


def _find(rules: Rules, name: ModelName | None, tier: str | None, at: datetime, span: Span) -> Found:
    """The model's card, while `span`. Raises NotPriced."""
    if name is None:
        raise NotPriced("neither the request nor the response names a model")
    span.within(rules.steady(name, tier, at))
    return rules.find(name, tier, at)
