"""What `report` understands by a day and by a key."""

from datetime import date

import pytest

from proxy.cli.report import days, group_keys
from proxy.errors import UsageError

TODAY = date(2026, 11, 22)


@pytest.mark.parametrize(
    ("since", "until", "first", "end"),
    [
        (None, None, "2026-11-01", "2026-11-23"),
        ("2026-11-22", None, "2026-11-22", "2026-11-23"),
        ("2025-01-01", None, "2025-01-01", "2026-11-23"),
        (None, "2026-11-10", "2026-11-01", "2026-11-10"),
        (None, "2026-11-01", "2026-10-01", "2026-11-01"),  # all of October
        (None, "2026-12-01", "2026-11-01", "2026-12-01"),
        (None, "2027-02-01", "2026-11-01", "2027-02-01"),
        ("2024-02-29", "2024-03-01", "2024-02-29", "2024-03-01"),
        ("2026-11-01T23:59:59Z", "2026-11-02T00:00:00.5+00:00", "2026-11-01", "2026-11-02"),
        ("2026-11-01T23:30:00-02:00", "2026-11-04t00:30:00+02:00", "2026-11-02", "2026-11-03"),
    ],
)
def test_days(since: str | None, until: str | None, first: str, end: str) -> None:
    assert days(since, until, TODAY) == (date.fromisoformat(first), date.fromisoformat(end))


@pytest.mark.parametrize(
    ("since", "until", "message"),
    [
        ("2026-13-01", None, '--since "2026-13-01": is no date of the calendar'),
        ("2026-02-30", None, "is no date of the calendar"),
        ("0000-01-01", None, "is no date of the calendar"),
        ("0001-01-01T00:00:00+10:00", None, "is no date of the calendar"),
        ("20261122", None, "write a date as YYYY-MM-DD"),
        ("2026-W47-1", None, "write a date as YYYY-MM-DD"),
        ("yesterday", None, '--since "yesterday": write a date as YYYY-MM-DD'),
        ("2026-11-22T00:00:00", None, "write a date as YYYY-MM-DD"),  # whose midnight?
        ("", None, "write a date as YYYY-MM-DD"),
        ("٢٠٢٦-11-22", None, "write a date as YYYY-MM-DD"),
        (None, "x", '--until "x": write a date as YYYY-MM-DD'),
        ("2026-11-23", None, "--since 2026-11-23: lies in the future (today is 2026-11-22 in UTC)"),
        ("2026-11-02", "2026-11-02", "the day of --until itself is not included"),
        ("2026-11-02", "2026-11-01", "--until 2026-11-01: must be after --since 2026-11-02"),
        (None, "0001-01-01", "must be after"),
    ],
)
def test_days_that_cannot_be(since: str | None, until: str | None, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        days(since, until, TODAY)

    assert message in str(caught.value)


def test_keys() -> None:
    assert group_keys("model") == ["model"]
    assert group_keys(" owner, fine-tuned,owner") == ["owner", "fine_tuned"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modell", '--by "modell": is none of model, base_model, fine_tuned, owner, day; did you mean "model"?'),
        ("model,", '--by "": is none of model'),
        ("", '--by "": is none of model'),
    ],
)
def test_keys_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        group_keys(text)

    assert message in str(caught.value)
