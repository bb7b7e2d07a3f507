"""A budget's standing: exact shares, and what is unknown stays so."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from proxy.reports.budget_use import BudgetUse, budgets_json

END = datetime(2026, 12, 1, tzinfo=UTC)


def use(spent: int, limit: int = 500 * 10**9, **more: Any) -> BudgetUse:
    fields: dict[str, Any] = {"name": "b", "period": "month", "held": 0, "resets_at": END}
    fields["alert_at"] = (Decimal("0.8"), Decimal(1))
    return BudgetUse(spent=spent, limit=limit, **(fields | more))


def test_as_json() -> None:
    monthly = use(400 * 10**9, held=1)
    total = use(1, 3, name="t", period="total", resets_at=None, per="owner", owner="acme")

    assert budgets_json([monthly, total]) == {
        "budgets": [
            {
                "name": "b",
                "period": "month",
                "per": None,
                "owner": None,
                "limit_usd": "500",
                "spent_usd": "400",
                "held_usd": "0.000000001",
                "used_ratio": 0.8,
                "resets_at": "2026-12-01T00:00:00Z",
                "used_up_at": None,
                "raised": None,
            },
            {
                "name": "t",
                "period": "total",
                "per": "owner",
                "owner": "acme",
                "limit_usd": "0.000000003",
                "spent_usd": "0.000000001",
                "held_usd": "0",
                "used_ratio": 0.333333,
                "resets_at": None,
                "used_up_at": None,
                "raised": None,
            },
        ]
    }


def test_a_limit_of_zero_has_no_share_and_is_used_up() -> None:
    zero = use(0, 0)

    assert (zero.used_ratio, zero.as_json()["used_ratio"], zero.used_up, zero.alerting) == (None, None, True, False)


def test_thresholds_are_compared_exactly() -> None:
    limit = 3
    third = Decimal(1) / 3  # a little below the third that is spent

    assert not use(399_999_999_999).alerting
    assert use(400 * 10**9).alerting
    assert use(1, limit, alert_at=(third,)).alerting
    assert not use(500 * 10**9, alert_at=()).alerting
    assert not use(500 * 10**9 - 1).used_up
    assert use(500 * 10**9).used_up
