"""Which budgets a request belongs to, in which periods, and how much is set aside for it. No I/O and no clock."""

from proxy.budgets.account import Account
from proxy.budgets.budget import Budget, budget_from
from proxy.budgets.hold import hold_nanos
from proxy.budgets.matching import BudgetBook
from proxy.budgets.owner import ANONYMOUS, Owner
from proxy.budgets.period import Period, PeriodKind, period_at

__all__ = [
    "ANONYMOUS",
    "Account",
    "Budget",
    "BudgetBook",
    "Owner",
    "Period",
    "PeriodKind",
    "budget_from",
    "hold_nanos",
    "period_at",
]
