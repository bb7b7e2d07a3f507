"""Periods tile time, also where midnight is skipped or comes twice."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.budgets import PeriodKind, period_at
from proxy.budgets.period import never_ends_before

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/Havana",  # falls back from 01:00 to 00:00, springs from 00:00 to 01:00
    "Asia/Beirut",  # both at midnight
    "America/Sao_Paulo",  # both at midnight, until 2019
    "America/Toronto",  # in 1919 from 23:30 to 00:30
    "Pacific/Apia",  # had no 2011-12-30
    "Australia/Lord_Howe",  # half an hour of summer time
    "Asia/Kathmandu",
    "Africa/Monrovia",  # an offset with seconds, until 1972
)
KINDS = (PeriodKind.DAY, PeriodKind.WEEK, PeriodKind.MONTH)
moments = st.datetimes(datetime(1915, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "timezone", "at", "expected"),
    [
        ("day", "UTC", "2026-11-22T00:00", ("2026-11-22", "2026-11-22T00:00", "2026-11-23T00:00")),
        ("day", "UTC", "2026-11-22T23:59:59.999999", ("2026-11-22", "2026-11-22T00:00", "2026-11-23T00:00")),
        ("week", "UTC", "2026-11-22T12:00", ("2026-W47", "2026-11-16T00:00", "2026-11-23T00:00")),
        ("week", "UTC", "2027-01-01T12:00", ("2026-W53", "2026-12-28T00:00", "2027-01-04T00:00")),
        ("month", "UTC", "2026-12-31T23:00", ("2026-12", "2026-12-01T00:00", "2027-01-01T00:00")),
        ("month", "Asia/Tokyo", "2026-11-30T15:00", ("2026-12", "2026-11-30T15:00", "2026-12-31T15:00")),
        ("day", "Europe/Berlin", "2026-03-29T12:00", ("2026-03-29", "2026-03-28T23:00", "2026-03-29T22:00")),
        # Midnight does not exist: the day starts where the clock jumps.
        ("day", "America/Sao_Paulo", "2018-11-04T03:00", ("2018-11-04", "2018-11-04T03:00", "2018-11-05T02:00")),
        ("day", "America/Sao_Paulo", "2018-11-04T02:59", ("2018-11-03", "2018-11-03T03:00", "2018-11-04T03:00")),
        ("day", "Asia/Beirut", "2026-03-28T23:00", ("2026-03-29", "2026-03-28T22:00", "2026-03-29T21:00")),
        # Midnight comes twice: the day starts at the first and has 25 hours.
        ("day", "America/Havana", "2026-11-01T04:30", ("2026-11-01", "2026-11-01T04:00", "2026-11-02T05:00")),
        ("day", "America/Havana", "2026-11-01T05:30", ("2026-11-01", "2026-11-01T04:00", "2026-11-02T05:00")),
        # The local date changes at 23:30 already, the period half an hour later: bounds decide, not dates.
        ("day", "America/Toronto", "1919-03-31T04:40", ("1919-03-30", "1919-03-30T05:00", "1919-03-31T05:00")),
        ("day", "Pacific/Apia", "2011-12-30T10:00", ("2011-12-31", "2011-12-30T10:00", "2011-12-31T10:00")),
    ],
)
def test_known_periods(kind: str, timezone: str, at: str, expected: tuple[str, str, str]) -> None:
    period = period_at(PeriodKind(kind), timezone, utc(at))
    assert (expected[0], utc(expected[1]), utc(expected[2])) == (period.id, period.start, period.end)


@given(moments, st.sampled_from(ZONES), st.sampled_from(KINDS))
@example(utc("1919-03-31T04:40"), "America/Toronto", PeriodKind.DAY)
@example(utc("2011-12-30T10:00"), "Pacific/Apia", PeriodKind.DAY)
def test_periods_tile_time(at: datetime, timezone: str, kind: PeriodKind) -> None:
    period = period_at(kind, timezone, at)
    assert period.start is not None
    assert period.end is not None
    assert period.start <= at < period.end
    assert period.holds(at)
    assert period == period_at(kind, timezone, period.start)
    assert period == period_at(kind, timezone, period.end - timedelta(microseconds=1))
    following = period_at(kind, timezone, period.end)
    assert following.start == period.end
    assert following.id != period.id
    previous = period_at(kind, timezone, period.start - timedelta(microseconds=1))
    assert previous.end == period.start


@given(moments, st.sampled_from(ZONES), st.sampled_from(KINDS))
def test_a_period_has_the_length_of_its_kind(at: datetime, timezone: str, kind: PeriodKind) -> None:
    period = period_at(kind, timezone, at)
    assert period.start is not None
    assert period.end is not None
    days = {PeriodKind.DAY: (1, 1), PeriodKind.WEEK: (7, 7), PeriodKind.MONTH: (28, 31)}[kind]
    skipped = timedelta(days=1, hours=2)  # the largest change of a clock: Samoa left out a day
    assert timedelta(days=days[0]) - skipped <= period.end - period.start <= timedelta(days=days[1]) + skipped


def test_the_moment_may_come_in_any_zone() -> None:
    at = datetime(2026, 11, 30, 23, 30, tzinfo=ZoneInfo("America/New_York"))
    assert period_at(PeriodKind.MONTH, "UTC", at).id == "2026-12"
    assert period_at(PeriodKind.MONTH, "America/New_York", at).id == "2026-11"


def test_a_total_never_ends() -> None:
    period = period_at(PeriodKind.TOTAL, "Europe/Berlin", utc("2026-11-22T00:00"))
    assert (period.id, period.start, period.end) == ("total", None, None)
    assert period.holds(utc("1999-01-01T00:00"))


@given(moments, st.sampled_from((*ZONES, "Pacific/Kiritimati", "Etc/GMT+12")), st.sampled_from(KINDS))
def test_an_id_tells_when_the_period_has_not_ended_anywhere(at: datetime, timezone: str, kind: PeriodKind) -> None:
    period = period_at(kind, timezone, at)
    earliest = never_ends_before(period.id)
    assert earliest is not None
    assert period.end is not None
    assert earliest <= period.end <= earliest + timedelta(days=2, hours=3)


@pytest.mark.parametrize("text", ["total", "", "2026", "2026-13", "2026-W60", "2026-11-31", "soon"])
def test_an_id_without_an_end(text: str) -> None:
    assert never_ends_before(text) is None
