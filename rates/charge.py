"""price(usage, card): what a request costs, line by line. Lines are exact; their sum is rounded once."""

from dataclasses import dataclass
from decimal import Decimal

import msgspec

from rates.errors import NotPriced
from rates.money import EXACT, Nanos, to_nanos
from rates.rate_card import UNIT_KINDS, RateCard
from rates.usage import PROMPT_KINDS, Usage

_TO_MILLIONS = -6
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Line:
    """One kind of usage. Exactly one of the two rates is set; `usd` is exact."""

    kind: str
    quantity: int
    usd_per_million: Decimal | None
    usd_per_unit: Decimal | None
    usd: Decimal


class Charge(msgspec.Struct, frozen=True):
    """Priced usage. `nanos` is the sum of the lines, rounded half to even. `assumed`: a line's rate is not printed."""

    card: RateCard
    usage: Usage
    nanos: Nanos
    long_context: bool
    assumed: bool = False

    @property
    def lines(self) -> tuple[Line, ...]:
        """What each kind costs."""
        return tuple(self._line(kind, quantity) for kind, quantity in self.usage.items())

    def _line(self, kind: str, quantity: int) -> Line:
        per_unit = self.card.unit_rates.get(kind)
        if kind in UNIT_KINDS and per_unit is not None:
            return Line(kind, quantity, None, per_unit, EXACT.multiply(per_unit, quantity))
        per_million = self.card.usd_per_million(kind, long_context=self.long_context)
        assert per_million is not None  # it was priced
        return Line(
            kind, quantity, per_million, None, EXACT.scaleb(EXACT.multiply(per_million, quantity), _TO_MILLIONS)
        )


def price(usage: Usage, card: RateCard) -> Charge:
    """Raises NotPriced when the usage has a kind that the card has no rate for. No usage costs nothing."""
    items = usage.items()
    long_context = False
    if card.long_context is not None:
        prompt = sum(quantity for kind, quantity in items if kind in PROMPT_KINDS)
        long_context = prompt > card.long_context.above_prompt_tokens
    millionths, whole = _ZERO, _ZERO  # US dollars of what costs by the million, and by the piece
    assumed = False
    for kind, quantity in items:
        if kind in UNIT_KINDS:
            rate = card.unit_rates.get(kind)
        else:
            rate = card.usd_per_million(kind, long_context=long_context)
        if rate is None:
            raise NotPriced(f"card {card.id} has no rate for {kind}")
        if kind in UNIT_KINDS:
            whole = EXACT.fma(rate, quantity, whole)
        else:
            millionths = EXACT.fma(rate, quantity, millionths)
        assumed = assumed or kind in card.assumed
    total = EXACT.add(EXACT.scaleb(millionths, _TO_MILLIONS), whole)
    return Charge(card, usage, to_nanos(total), long_context, assumed)
