"""When a budget will be used up, at the pace of the period so far."""

from datetime import UTC, datetime, timedelta

import pytest

from proxy.budgets import PeriodKind, period_at
from proxy.budgets.forecast import used_up_at

NOVEMBER = period_at(PeriodKind.MONTH, "UTC", datetime(2026, 11, 22, tzinfo=UTC))
USD = 10**9


@pytest.mark.parametrize(
    ("spent", "now", "expected"),
    [
        (250 * USD, "2026-11-11T00:00:00", "2026-11-21T00:00:00"),  # half in ten days
        (400 * USD, "2026-11-17T00:00:00", "2026-11-21T00:00:00"),  # 25 a day
        (333 * USD, "2026-11-11T00:00:00", "2026-11-16T00:21:38"),  # rounded up to the second
        (500 * USD, "2026-11-11T00:00:00", "2026-11-11T00:00:00"),
        (600 * USD, "2026-11-11T00:00:00", "2026-11-11T00:00:00"),
        (100 * USD, "2026-11-11T00:00:00", None),  # December
        (1, "2026-11-30T23:59:59", None),
        (0, "2026-11-11T00:00:00", None),
        (1, "2026-11-01T00:00:00", None),  # no pace yet
    ],
)
def test_forecasts(spent: int, now: str, expected: str | None) -> None:
    at = used_up_at(spent, 500 * USD, NOVEMBER, datetime.fromisoformat(now).replace(tzinfo=UTC))

    assert (None if at is None else at.replace(tzinfo=None).isoformat()) == expected


def test_a_total_has_no_pace_and_a_limit_of_zero_is_used_up() -> None:
    now = datetime(2026, 11, 11, tzinfo=UTC)
    total = period_at(PeriodKind.TOTAL, "UTC", now)

    assert used_up_at(1, 500, total, now) is None
    assert used_up_at(500, 500, total, now) == now
    assert used_up_at(0, 0, NOVEMBER, now) == now


def test_what_is_used_up_just_at_the_end_is_not_in_this_period() -> None:
    assert NOVEMBER.start is not None
    half = NOVEMBER.start + timedelta(days=15)

    assert used_up_at(250, 500, NOVEMBER, half) is None
