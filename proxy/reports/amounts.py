"""Dollars, ratios and times as people read them. Nothing is rounded up, and dollars are not rounded at all."""

from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo
from decimal import ROUND_DOWN, Decimal

from rates.money import EXACT, Nanos, plain, to_usd

UNPRICED = "unpriced"


def dollars(nanos: Nanos | None, places: int = 2) -> str:
    """`$1,234.50`, with more places where the amount has them: what is shown is exact."""
    if nanos is None:
        return UNPRICED
    whole, _, fraction = plain(abs(to_usd(nanos))).partition(".")
    return f"{'-' if nanos < 0 else ''}${int(whole):,}.{fraction.ljust(places, '0')}"


def dollar_column(amounts: Sequence[Nanos | None]) -> list[str]:
    """Amounts with the same number of places, so that the points stand below each other."""
    places = max((len(dollars(nanos).partition(".")[2]) for nanos in amounts if nanos is not None), default=2)
    return [dollars(nanos, places) for nanos in amounts]


def percent(ratio: Decimal | None) -> str:
    """Cut, not rounded: 99.97% is not yet 100%."""
    if ratio is None:
        return "-"
    return f"{EXACT.multiply(ratio, Decimal(100)).quantize(Decimal('0.1'), ROUND_DOWN, EXACT):,}%"


def count(number: int) -> str:
    return f"{number:,}"


def counted(number: int, noun: str) -> str:
    """`1 request`, `2 requests`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def local_time(at: datetime, zone: tzinfo | None = None) -> str:
    """A minute in the reader's own zone (None: the machine's), with the zone's name."""
    return at.astimezone(zone).strftime("%Y-%m-%d %H:%M %Z")


def time_left(until: datetime, now: datetime) -> str:
    """`in 8 d 3 h`, `in 3 h 5 min`, `in 4 min`, `now`: the two largest units, cut."""
    left = until - now
    if left < timedelta(minutes=1):
        return "now" if left <= timedelta(0) else "in less than a minute"
    minutes = int(left.total_seconds()) // 60
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [f"{value} {unit}" for value, unit in ((days, "d"), (hours, "h"), (minutes, "min"))]
    first = 0 if days else 1 if hours else 2
    return "in " + " ".join(part for part in parts[first : first + 2] if not part.startswith("0 "))
