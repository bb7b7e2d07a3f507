"""price(usage, card): what a request costs, line by line. Lines are exact; their sum is rounded once."""

from dataclasses import dataclass
from decimal import Decimal

import msgspec

from rates.money import EXACT, Nanos
from rates.rate_card import UNIT_KINDS, RateCard
from rates.usage import Usage
from rates.whole_rates import prices_of

_TO_MILLIONS = -6


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
    priced = prices_of(card).of(usage.as_dict())
    return Charge(card, usage, priced.nanos, priced.long_context, priced.assumed)
