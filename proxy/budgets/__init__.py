"""Which budgets a request belongs to, in which periods, and how much is set aside for it. No I/O and no clock."""

from proxy.budgets.account import Account
from proxy.budgets.budget import Budget, budget_from
from proxy.budgets.crowding import MOST_ACCOUNTS, refuse_crowds
from proxy.budgets.hold import HoldSizes, hold_nanos
from proxy.budgets.matching import BudgetBook
from proxy.budgets.owner import ANONYMOUS, Owner
from proxy.budgets.period import Period, PeriodKind, period_at
from proxy.budgets.raised import Raise, Raises

__all__ = [
    "ANONYMOUS",
    "MOST_ACCOUNTS",
    "Account",
    "Budget",
    "BudgetBook",
    "HoldSizes",
    "Owner",
    "Period",
    "PeriodKind",
    "Raise",
    "Raises",
    "budget_from",
    "hold_nanos",
    "period_at",
    "refuse_crowds",
]
