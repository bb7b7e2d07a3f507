"""Periods: calendar days, weeks from Monday and months in a time zone. They tile time: no gap, no overlap."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo


class PeriodKind(StrEnum):
    """How long a limit holds."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    TOTAL = "total"


@dataclass(frozen=True, slots=True)
class Period:
    """`[start, end)` in UTC; a total has neither. The id is unique among periods of every kind in one time zone."""

    kind: PeriodKind
    id: str
    start: datetime | None
    end: datetime | None

    def holds(self, at: datetime) -> bool:
        """Whether this moment lies in the period."""
        return self.start is None or self.end is None or self.start <= at < self.end


_FARTHEST_EAST: Final = timedelta(hours=15)  # Kiribati is 14 hours ahead of UTC
TOTAL = Period(PeriodKind.TOTAL, "total", None, None)


def period_at(kind: PeriodKind, timezone: str, at: datetime) -> Period:
    """The period of this kind that the moment lies in.

    A period starts at local midnight, the first of two where clocks are set back over midnight (fold = 0), and ends
    where the next one starts. Where clocks skip midnight, fold = 0 gives the moment of the skip, or, if clocks skip
    from before midnight to after it, a moment when the local date has already changed. So the local date only
    proposes a period, and the bounds decide.
    """
    if kind is PeriodKind.TOTAL:
        return TOTAL
    zone = ZoneInfo(timezone)
    first = _first_day(kind, at.astimezone(zone).date())
    while _midnight(first, zone) > at:
        first = _first_day(kind, first - timedelta(days=1))
    while (end := _midnight(_next(kind, first), zone)) <= at:
        first = _next(kind, first)
    return Period(kind, _id(kind, first), _midnight(first, zone), end)


def never_ends_before(period_id: str) -> datetime | None:
    """The first moment at which a period with this id may end in any time zone; None: it never does, or is no id."""
    try:
        if "-W" in period_id:
            end = date.fromisoformat(f"{period_id}-1") + timedelta(days=7)
        elif len(period_id) == len("2026-11"):
            end = _next(PeriodKind.MONTH, date.fromisoformat(f"{period_id}-01"))
        else:
            end = date.fromisoformat(period_id) + timedelta(days=1)
    except (ValueError, OverflowError):
        return None
    return datetime.combine(end, time(), UTC) - _FARTHEST_EAST


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)


def _first_day(kind: PeriodKind, day: date) -> date:
    if kind is PeriodKind.MONTH:
        return day.replace(day=1)
    if kind is PeriodKind.WEEK:
        return day - timedelta(days=day.weekday())
    return day


def _next(kind: PeriodKind, first: date) -> date:
    if kind is PeriodKind.MONTH:
        return (first + timedelta(days=31)).replace(day=1)
    return first + timedelta(days=7 if kind is PeriodKind.WEEK else 1)


def _id(kind: PeriodKind, first: date) -> str:
    if kind is PeriodKind.MONTH:
        return f"{first:%Y-%m}"
    if kind is PeriodKind.WEEK:
        year, week, _ = first.isocalendar()
        return f"{year:04}-W{week:02}"
    return first.isoformat()
