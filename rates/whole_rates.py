"""A card's rates as whole numbers: what each kind costs in parts of a nano."""

from rates.rate_card import UNIT_KINDS, RateCard
from rates.usage import KINDS

_DIGITS_A_TOKEN = 3  # US dollars a million tokens → nanos a token: 10^9 / 10^6
_DIGITS_A_PIECE = 9  # US dollars a piece → nanos


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
