"""Nanos, and the one rounding. A nano is 10^-9 US dollar; amounts are integers of it, rates are Decimals."""

from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import Final

Nanos = int
NANOS_PER_USD = 10**9
PER_MILLION = 10**6

# Wide enough that no product of a rate (30 digits at most) and a quantity (10 digits at most) is ever rounded.
EXACT = Context(prec=60)
_NANO_DIGITS: Final = 9


def parse_usd(text: str) -> Decimal:
    """An amount of US dollars written as plain decimal text. Raises ValueError for anything else or below zero."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text!r} is not a decimal amount") from None
    if not amount.is_finite() or amount < 0:
        raise ValueError(f"{text!r} is not an amount of zero or more")
    return amount


def to_nanos(usd: Decimal) -> Nanos:
    """The one rounding: half to even, to whole nano-dollars."""
    return int(EXACT.scaleb(usd, _NANO_DIGITS).to_integral_value(ROUND_HALF_EVEN, EXACT))


def to_usd(nanos: Nanos) -> Decimal:
    """Nanos as exact dollars."""
    return EXACT.scaleb(Decimal(nanos), -_NANO_DIGITS)


def plain(amount: Decimal) -> str:
    """A Decimal as plain text: no exponent, no trailing zeros, `0` for zero of any sign."""
    if not amount:
        return "0"
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def usd_text(nanos: Nanos | None) -> str | None:
    """Nanos as plain decimal dollars (`900000` → `"0.0009"`); None stays None: unknown is not zero."""
    if nanos is None:
        return None
    whole, rest = divmod(abs(nanos), NANOS_PER_USD)
    text = f"{whole}.{str(rest).zfill(_NANO_DIGITS).rstrip('0')}" if rest else str(whole)
    return text if nanos >= 0 else f"-{text}"


def dollars_text(nanos: Nanos) -> str:
    """Dollars with at least two decimals, more only where they say something: `$500.00`, `$0.0009`."""
    whole, _, decimals = plain(to_usd(nanos)).partition(".")
    return f"${whole}.{decimals.ljust(2, '0')}"
