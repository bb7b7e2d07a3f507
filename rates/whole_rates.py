"""A card's rates as whole numbers: what each kind costs in parts of a nano."""

from collections.abc import Mapping
from typing import Final

from rates.errors import NotPriced
from rates.money import Nanos
from rates.rate_card import UNIT_KINDS, RateCard
from rates.usage import KINDS, PROMPT_KINDS

_DIGITS_A_TOKEN: Final = 3  # US dollars a million tokens → nanos a token: 10^9 / 10^6
_DIGITS_A_PIECE: Final = 9  # US dollars a piece → nanos


class WholeRates:
    """`parts[kind] / scale` is exactly what one of this kind costs in nanos; a kind without a rate is not in it."""

    __slots__ = ("assumed", "parts", "scale")

    def __init__(self, card: RateCard, *, long_context: bool) -> None:
        rates: dict[str, tuple[int, int]] = {}  # a whole number, and the power of ten that it stands before
        for kind in KINDS:
            is_unit = kind in UNIT_KINDS
            rate = card.unit_rates.get(kind) if is_unit else card.usd_per_million(kind, long_context=long_context)
            if rate is not None:
                sign, digits, exponent = rate.as_tuple()
                assert isinstance(exponent, int)  # a rate is finite
                whole = int("".join(map(str, digits)) or "0") * (-1 if sign else 1)
                rates[kind] = whole, exponent + (_DIGITS_A_PIECE if is_unit else _DIGITS_A_TOKEN)
        decimals = max((-exponent for whole, exponent in rates.values() if whole), default=0)
        decimals = max(decimals, 0)
        self.scale = 10**decimals
        self.parts = {
            kind: whole * 10 ** (exponent + decimals) if whole else 0 for kind, (whole, exponent) in rates.items()
        }
        self.assumed = frozenset(kind for kind in self.parts if kind in card.assumed)
        """The kinds whose rate no source prints."""


class Priced:
    """What quantities cost. `assumed`: a line's rate is not printed."""

    __slots__ = ("assumed", "long_context", "nanos")

    def __init__(self, nanos: Nanos, long_context: bool, assumed: bool) -> None:
        self.nanos = nanos
        self.long_context = long_context
        self.assumed = assumed


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
