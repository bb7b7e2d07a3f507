"""price(usage, card): what a request costs, line by line. Lines are exact; their sum is rounded once."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

import msgspec

from rates.errors import NotPriced
from rates.money import EXACT, Nanos
from rates.rate_card import UNIT_KINDS, RateCard
from rates.usage import PROMPT_KINDS, Usage
from rates.whole_rates import WholeRates

_TO_MILLIONS = -6


@dataclass(frozen=True, slots=True)
class Line:
    """One kind of usage. Exactly one of the two rates is set; `usd` is exact."""

    kind: str
    quantity: int
    usd_per_million: Decimal | None
    usd_per_unit: Decimal | None
    usd: Decimal


class Priced(msgspec.Struct, frozen=True):
    """What quantities cost. `assumed`: a line's rate is not printed."""

    nanos: Nanos
    long_context: bool
    assumed: bool


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


class Prices:
    """A card's rates as integers, made once. No float and no Decimal stands between a quantity and its nanos."""

    __slots__ = ("_card_id", "_long", "_plain", "_threshold")

    def __init__(self, card: RateCard) -> None:
        self._card_id = card.id
        self._plain = WholeRates(card, long_context=False)
        self._threshold = card.long_context.above_prompt_tokens if card.long_context is not None else None
        self._long = self._plain if self._threshold is None else WholeRates(card, long_context=True)

    def of(self, quantities: Mapping[str, int]) -> Priced:
        """What disjoint quantities cost. Raises NotPriced for a kind that has no rate. Nothing costs nothing."""
        rates, long_context = self._plain, False
        if self._threshold is not None:
            prompt = 0
            for kind in quantities:
                if kind in PROMPT_KINDS:
                    prompt += quantities[kind]
            if prompt > self._threshold:
                rates, long_context = self._long, True
        parts = rates.parts
        total = 0
        for kind, quantity in quantities.items():
            part = parts.get(kind)
            if part is None:
                raise NotPriced(f"card {self._card_id} has no rate for {kind}")
            total += part * quantity
        if rates.scale != 1:
            total, rest = divmod(total, rates.scale)
            if 2 * rest > rates.scale or (2 * rest == rates.scale and total & 1):
                total += 1
        return Priced(total, long_context, bool(rates.assumed) and not rates.assumed.isdisjoint(quantities))


def prices_of(card: RateCard) -> Prices:
    """The same for each call."""
    made = card.memo.get("prices")
    if not isinstance(made, Prices):
        made = card.memo["prices"] = Prices(card)
    return made


def price(usage: Usage, card: RateCard) -> Charge:
    """Raises NotPriced when the usage has a kind that the card has no rate for. No usage costs nothing."""
    priced = prices_of(card).of(usage.as_dict())
    return Charge(card, usage, priced.nanos, priced.long_context, priced.assumed)
