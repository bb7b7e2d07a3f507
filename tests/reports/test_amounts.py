"""What people read is exact or cut, never rounded up."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from proxy.reports.amounts import counted, dollar_column, dollars, local_time, percent, time_left

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("nanos", "text"),
    [
        (0, "$0.00"),
        (900_000, "$0.0009"),
        (1, "$0.000000001"),
        (500 * 10**9, "$500.00"),
        (1_234_567_500_000_000, "$1,234,567.50"),
        (-5 * 10**8, "-$0.50"),
        (None, "unpriced"),
    ],
)
def test_dollars(nanos: int | None, text: str) -> None:
    assert dollars(nanos) == text


def test_the_points_of_a_column_stand_below_each_other() -> None:
    assert dollar_column([10**12, 900_000, None]) == ["$1,000.0000", "$0.0009", "unpriced"]
    assert dollar_column([None]) == ["unpriced"]
    assert dollar_column([]) == []


@pytest.mark.parametrize(
    ("ratio", "text"),
    [("0", "0.0%"), ("0.8", "80.0%"), ("0.99999", "99.9%"), ("1", "100.0%"), ("12.3456", "1,234.5%")],
)
def test_percent(ratio: str, text: str) -> None:
    assert percent(Decimal(ratio)) == text


def test_percent_of_nothing() -> None:
    assert percent(None) == "-"


@pytest.mark.parametrize(
    ("left", "text"),
    [
        (timedelta(days=8, hours=3, minutes=59), "in 8 d 3 h"),
        (timedelta(days=8, minutes=59), "in 8 d"),
        (timedelta(hours=3, minutes=5), "in 3 h 5 min"),
        (timedelta(hours=10), "in 10 h"),
        (timedelta(minutes=4, seconds=59), "in 4 min"),
        (timedelta(seconds=59), "in less than a minute"),
        (timedelta(0), "now"),
        (timedelta(days=-1), "now"),
    ],
)
def test_time_left(left: timedelta, text: str) -> None:
    assert time_left(NOW + left, NOW) == text


def test_local_time() -> None:
    assert local_time(NOW, ZoneInfo("Asia/Tokyo")) == "2026-11-22 21:00 JST"


def test_counted() -> None:
    assert (counted(1, "request"), counted(1000, "request")) == ("1 request", "1,000 requests")
