"""RateCard: what one model costs at one provider in one tier over one period."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Literal

from rates.errors import NotPriced
from rates.money import EXACT
from rates.usage import KINDS, PROMPT_KINDS

TIERS = ("standard", "batch", "flex", "priority")
_OTHER_NAMES = {None: "standard", "auto": "standard", "default": "standard", "fast": "priority"}

AS_TEXT = {"image_input": "input", "cached_image_input": "cached_input"}
"""Images in a chat are charged as text tokens (OpenAI's guide "Images and vision"), unless a card says otherwise."""

UNIT_KINDS = frozenset(kind for kind in KINDS if kind.endswith(("_calls", "_sessions")))
"""Kinds that are counted in pieces: their rate is US dollars a piece, not a million tokens."""
UNKNOWN_START = datetime(2024, 1, 1, tzinfo=UTC)
"""Where a card begins whose beginning nobody knows. Such a card says so in `assumed`."""


def tier_named(service_tier: str | None) -> str:
    """The tier that the API's word for it means. Raises NotPriced for a word that no card has."""
    tier = _OTHER_NAMES.get(service_tier, service_tier)
    if tier not in TIERS or tier is None:
        raise NotPriced(f"no card has a tier {str(service_tier)[:40]!r}; known: {', '.join(TIERS)}")
    return tier


@dataclass(frozen=True, slots=True)
class LongContext:
    """Above `above_prompt_tokens` the WHOLE request costs more: prompt kinds input_times, output output_times as much.

    `rates` are the few that the price page prints differently (it rounds): they win over the multiplier.
    """

    above_prompt_tokens: int
    input_times: Decimal
    output_times: Decimal
    rates: Mapping[str, Decimal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Training:
    """What training costs: a million trained tokens (epochs counted), or an hour of the core loop. One of the two."""

    usd_per_million: Decimal | None = None
    usd_per_hour: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Hosting:
    """What a deployment costs an hour, used or not."""

    usd_per_hour: Decimal
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCard:
    """One price. It holds over [effective_from, effective_to) in UTC, at the start of a request.

    `rates` are USD per million tokens, `unit_rates` USD a piece. A kind in neither has no price: not zero.
    `assumed` names the kinds, or `effective_from`, that no source prints. A shutdown date never ends a card.
    `residency_times` is what a data-residency endpoint multiplies the rates of tokens by; a card that is `resident`
    is its twin, with the product as its rates. `any_date`: an id of the model with any date behind it costs the same.
    `id` is unique in a catalogue; shipped files are only appended to, so that it means the same price for good.
    """

    id: str
    provider: str
    model: str
    snapshots: tuple[str, ...] = ()
    fine_tuned: bool
    tier: str
    rates: Mapping[str, Decimal]
    unit_rates: Mapping[str, Decimal] = field(default_factory=dict)
    assumed: frozenset[str] = frozenset()
    effective_from: datetime
    effective_to: datetime | None = None
    long_context: LongContext | None = None
    residency_times: Decimal | None = None
    resident: bool = False
    any_date: bool = False
    shutdown: date | None = None
    max_output_tokens: int | None = None
    training: Training | None = None
    hosting: Hosting | None = None
    source: str
    checked: date
    note: str = ""
    origin: Literal["shipped", "override", "imported"] = "shipped"
    memo: dict[str, object] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What was worked out of the card and stays true. No part of it."""

    def __hash__(self) -> int:
        return hash(self.id)

    def holds_at(self, at: datetime) -> bool:
        return self.effective_from <= at and (self.effective_to is None or at < self.effective_to)

    def usd_per_million(self, kind: str, *, long_context: bool = False) -> Decimal | None:
        """The rate of a kind of token, or None: no price."""
        if kind in AS_TEXT and kind not in self.rates:
            kind = AS_TEXT[kind]
        rate = self.rates.get(kind)
        if rate is None or not long_context or self.long_context is None:
            return rate
        printed = self.long_context.rates.get(kind)
        if printed is not None:
            return printed
        times = self.long_context.input_times if kind in PROMPT_KINDS else self.long_context.output_times
        return EXACT.multiply(rate, times)
