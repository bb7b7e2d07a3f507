"""Plans: what is worked out once for requests that are alike, and holds for all of them.

Requests are alike when owner, asked model, tier, endpoint, rules and the served name learned of the model are the same.
A plan is good for a span of time: as long as every account's period runs, and no card begins, ends or gets checked that
could be found. Where a budget is raised nothing is kept, for a raise ends by itself. Plans belong to their rules, so
none outlives a swap of them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from proxy.budgets import MOST_ACCOUNTS, Account, BudgetBook, HoldSizes, Owner
from proxy.config import Config
from proxy.denials import deny_unpriced, too_many
from proxy.ledger import OpenedForm, OpenedText
from proxy.metering import RequestFacts
from proxy.store import moved_account
from rates import Catalogue, Found, ModelName, NotPriced, Prices, parse_model_name, prices_of
from rates.catalogue import FIRST, LAST

_PLANS_KEPT = 2048  # about 3 kB each
_LONGEST_KEPT: Final = 256  # characters: a name is the caller's text

PlanKey = tuple[str, str, str | None, str | None, str, str | None]


@dataclass(frozen=True, slots=True)
class Rules:
    """What is decided by configuration: swapped as a whole when it is re-read, so no request sees half of each."""

    config: Config
    catalogue: Catalogue
    book: BudgetBook
    plans: dict[PlanKey, "Plan"] = field(default_factory=dict, init=False, repr=False, compare=False)
    """See `plan`."""

    def find(self, name: ModelName, tier: str | None, at: datetime) -> Found:
        """What a model costs at the configured upstream. Raises NotPriced."""
        config = self.config
        return self.catalogue.find(name, provider=config.provider, tier=tier, at=at, resident=config.data_residency)

    def steady(self, name: ModelName, tier: str | None, at: datetime) -> "Span":
        """While `find` answers the same."""
        config = self.config
        return Span(
            *self.catalogue.steady(name, provider=config.provider, tier=tier, at=at, resident=config.data_residency)
        )

    def plan(
        self, owner: Owner, asked: str | None, tier: str | None, endpoint: str, served: str | None, at: datetime
    ) -> "Plan":
        """The plan of requests like this one, `served` being the name learned of the model. Raises Denied."""
        key = (owner.identity, owner.name, asked, tier, endpoint, served)
        plan = self.plans.get(key)
        if plan is not None and plan.start <= at < plan.end:
            return plan
        plan = Plan(self, owner, asked, tier, endpoint, served, at)
        if not self.book.raises and len(asked or "") <= _LONGEST_KEPT and len(tier or "") <= _LONGEST_KEPT:
            if len(self.plans) >= _PLANS_KEPT:
                self.plans.clear()
            self.plans[key] = plan
        return plan


class Span:
    """A time `[start, end)`, which only gets shorter."""

    __slots__ = ("end", "start")

    def __init__(self, start: datetime = FIRST, end: datetime = LAST) -> None:
        self.start = start
        self.end = end

    def within(self, other: "Span") -> None:
        self.start = max(self.start, other.start)
        self.end = min(self.end, other.end)

    def within_periods(self, accounts: Iterable[Account]) -> None:
        for account in accounts:
            period = account.period
            if period.start is not None and period.end is not None:
                self.start = max(self.start, period.start)
                self.end = min(self.end, period.end)


class Plan:
    """What admission knows of like requests. `terms` is where settlement keeps what it knows of their endings."""

    __slots__ = (
        "_assumed", "_form", "_prices", "_sizes", "accounts", "end", "refusing", "start", "terms",
    )  # fmt: skip

    def __init__(
        self,
        rules: Rules,
        owner: Owner,
        asked: str | None,
        tier: str | None,
        endpoint: str,
        served: str | None,
        at: datetime,
    ) -> None:
        """Raises Denied where a request may not pass, whatever it asks for."""
        name = parse_model_name(rules.config.models.get(asked, asked)) if asked else None
        span = Span()
        found, unpriced = None, None
        try:
            found = _card_for_hold(rules, name, tier, at, span)
        except NotPriced as reason:
            unpriced = reason
        names = _possible_names(rules, asked, name, found, served)
        fine_tuned = name.fine_tuned if name else None
        accounts = rules.book.matching(owner, names, fine_tuned, at)
        if len(accounts) > MOST_ACCOUNTS:
            raise too_many(accounts)
        refusing = next((account for account in accounts if account.budget.refuses), None)
        if unpriced is not None:
            deny_unpriced(unpriced, refusing, rules.config.unpriced)
        certain = tuple(dict.fromkeys((asked, name.text))) if asked and name else ()
        charged = accounts if certain == names else rules.book.matching(owner, certain, fine_tuned, at)
        span.within_periods(accounts)
        span.within_periods(charged)
        card = found.card if found is not None else None
        self.start, self.end = span.start, span.end
        self.accounts = accounts
        self.refusing = refusing
        """The first account that refuses; None: nobody needs to wait."""
        self.terms: dict[object, object] = {}
        self._assumed = found is not None and found.assumed
        self._sizes = HoldSizes(card, rules.config.default_output_tokens)
        self._prices: Prices | None = prices_of(card) if card is not None else None
        self._form = OpenedForm(
            owner=owner.name,
            identity=owner.identity,
            endpoint=endpoint,
            asked_model=asked,
            model=name.text if name else None,
            tier=card.tier if card is not None else tier or "standard",
            card=card.id if card is not None else None,
            provenance=found.provenance if found is not None else None,
            accounts=tuple(map(moved_account, charged)),
        )

    @property
    def is_priced(self) -> bool:
        return self._prices is not None

    def nanos(self, facts: RequestFacts, prompt_tokens: int) -> int:
        """The hold of a request that is priced, with a prompt of so many tokens."""
        assert self._prices is not None
        return self._prices.of(self._sizes.quantities(prompt_tokens, facts.max_output_tokens, facts.n)).nanos

    def opened(
        self, entry_id: str, at: str, facts: RequestFacts, prompt_tokens: int, client_request_id: str | None
    ) -> OpenedText:
        """What is known of a request with a prompt of so many tokens: its hold is the most that it allows."""
        quantities = self._sizes.quantities(prompt_tokens, facts.max_output_tokens, facts.n)
        prices = self._prices
        if prices is None:
            return self._form.opened(
                entry_id, at, quantities, None, assumed=False, long_context=False, client_request_id=client_request_id
            )
        priced = prices.of(quantities)
        return self._form.opened(
            entry_id,
            at,
            quantities,
            priced.nanos,
            assumed=self._assumed or priced.assumed,
            long_context=priced.long_context,
            client_request_id=client_request_id,
        )


def _card_for_hold(rules: Rules, name: ModelName | None, tier: str | None, at: datetime, span: Span) -> Found:
    """The asked model's card, while `span`. Raises NotPriced."""
    if name is None:
        raise NotPriced("the request names no model")
    span.within(rules.steady(name, tier, at))
    try:
        return rules.find(name, tier, at)
    except NotPriced:
        if tier is None:
            raise
        # The upstream decides the tier that is charged; an unknown wish must not make the model unpriced.
        span.within(rules.steady(name, None, at))
        return rules.find(name, None, at)


def _possible_names(
    rules: Rules, asked: str | None, name: ModelName | None, found: Found | None, served: str | None
) -> tuple[str, ...]:
    """Every name that a budget's glob may come to match: asked, mapped, the alias's snapshots, what served lately.

    Some are guesses. They set money aside; what is charged at the end goes by the names that came true.
    """
    if not asked or name is None:
        return ()
    names = dict.fromkeys((asked, name.text))
    if found is not None and not name.fine_tuned and name.snapshot is None:
        names.update(dict.fromkeys(found.card.snapshots))
    if served is not None:
        names[served] = names[rules.config.models.get(served, served)] = None
    return tuple(names)
