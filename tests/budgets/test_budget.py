"""Configuration records become budgets."""

from decimal import Decimal

from proxy.budgets import Budget, PeriodKind, budget_from
from proxy.config import BudgetConfig


def test_a_record_with_nothing_but_a_limit() -> None:
    record = BudgetConfig(name="acme-monthly", limit_nanos=500 * 10**9, period="month")
    assert budget_from(record) == Budget(name="acme-monthly", limit=500 * 10**9, period=PeriodKind.MONTH)


def test_a_record_with_everything() -> None:
    record = BudgetConfig(
        name="each",
        limit_nanos=1,
        period="week",
        timezone="Europe/Berlin",
        owner=None,
        model="ft:*",
        fine_tuned=True,
        per="owner",
        alert_at=(Decimal("0.5"),),
        on_exceed="alert",
        on_store_loss="refuse",
    )
    budget = budget_from(record)
    assert budget.per_owner
    assert not budget.refuses
    assert (budget.timezone, budget.model, budget.fine_tuned) == ("Europe/Berlin", "ft:*", True)
    assert (budget.alert_at, budget.on_store_loss) == ((Decimal("0.5"),), "refuse")
