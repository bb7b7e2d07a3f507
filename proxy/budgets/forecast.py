"""When a budget will be used up, if what is left goes at the pace of the period so far."""

from datetime import datetime, timedelta
from decimal import ROUND_CEILING, Decimal

from proxy.budgets.period import Period
from rates.money import EXACT, Nanos


def used_up_at(spent: Nanos, limit: Nanos, period: Period, now: datetime) -> datetime | None:
    """To the second. None: not in this period, or nobody can say (nothing spent yet, a period that has no start).

    The pace is what was spent divided by the time since the period began. What is used up already is used up now.
    """
    if spent >= limit:
        return now
    if period.start is None or period.end is None or spent <= 0 or now <= period.start:
        return None
    elapsed = Decimal((now - period.start) // timedelta(microseconds=1))
    left = EXACT.divide(EXACT.multiply(elapsed, Decimal(limit - spent)), Decimal(spent))
    if left > (period.end - now) // timedelta(microseconds=1):
        return None
    at = now + timedelta(seconds=int((left / 10**6).to_integral_value(ROUND_CEILING)))
    return at if at < period.end else None
