"""price(usage, card): what a request costs, line by line. Lines are exact; their sum is rounded once."""

from dataclasses import dataclass
from decimal import Decimal

from rates.errors import NotPriced
from rates.money import EXACT, Nanos, to_nanos
from rates.rate_card import UNIT_KINDS, RateCard
from rates.usage import PROMPT_KINDS, Usage

_TO_MILLIONS = -6


@dataclass(frozen=True, slots=True)
class Line:
    """One kind of usage. Exactly one of the two rates is set; `usd` is exact."""

    kind: str
    quantity: int
    usd_per_million: Decimal | None
    usd_per_unit: Decimal | None
    usd: Decimal


@dataclass(frozen=True, slots=True)
class Charge:
    """Priced usage. `nanos` is the sum of the lines, rounded half to even. `assumed`: a line's rate is not printed."""

    card: RateCard
    lines: tuple[Line, ...]
    nanos: Nanos
    long_context: bool
    assumed: bool = False


def price(usage: Usage, card: RateCard) -> Charge:
    """Raises NotPriced when the usage has a kind that the card has no rate for. No usage costs nothing."""
    long_context = False
    if card.long_context is not None:
        prompt = sum(quantity for kind, quantity in usage.items() if kind in PROMPT_KINDS)
        long_context = prompt > card.long_context.above_prompt_tokens
    lines: list[Line] = []
    total = Decimal(0)
    assumed = False
    for kind, quantity in usage.items():
        if kind in UNIT_KINDS:
            per_million, per_unit = None, card.unit_rates.get(kind)
        else:
            per_million, per_unit = card.usd_per_million(kind, long_context=long_context), None
        if per_million is not None:
            usd = EXACT.scaleb(EXACT.multiply(per_million, Decimal(quantity)), _TO_MILLIONS)
        elif per_unit is not None:
            usd = EXACT.multiply(per_unit, Decimal(quantity))
        else:
            raise NotPriced(f"card {card.id} has no rate for {kind}")
        lines.append(Line(kind, quantity, per_million, per_unit, usd))
        total = EXACT.add(total, usd)
        assumed = assumed or kind in card.assumed
    return Charge(card, tuple(lines), to_nanos(total), long_context, assumed)
