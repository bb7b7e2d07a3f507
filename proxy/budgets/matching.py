"""The book of budgets: which accounts a request belongs to. Budgets of other owners cost a request nothing."""

import re
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Iterable
from datetime import datetime

from proxy.budgets.account import Account
from proxy.budgets.budget import Budget
from proxy.budgets.owner import Owner
from proxy.budgets.period import Period, PeriodKind, period_at

_ACCOUNTS_KEPT = 8192  # accounts made once and used again; about 500 bytes each


class BudgetBook:
    """All budgets of a configuration, found by owner. Budget names are unique in it."""

    def __init__(self, budgets: Iterable[Budget]) -> None:
        self.budgets = tuple(budgets)
        if len({budget.name for budget in self.budgets}) != len(self.budgets):
            raise ValueError("two budgets have the same name")
        self._of_anybody: list[_Condition] = []
        self._of_owner: defaultdict[str, list[_Condition]] = defaultdict(list)
        for position, budget in enumerate(self.budgets):
            condition = _Condition(position, budget)
            if budget.owner is None:
                self._of_anybody.append(condition)
            else:
                self._of_owner[budget.owner].append(condition)
        self._periods: dict[tuple[PeriodKind, str], Period] = {}
        self._accounts: OrderedDict[tuple[str, str, str | None], Account] = OrderedDict()

    def matching(
        self, owner: Owner, names: Collection[str], fine_tuned: bool | None, at: datetime
    ) -> tuple[Account, ...]:
        """The accounts of every budget that matches, in the order of the configuration.

        `names` are the asked and served names: one that fits is enough. A budget's owner may be a shown name or a
        whole identity. `fine_tuned` None means unknown: only budgets without that condition match.
        """
        conditions = self._of_anybody + self._of_owner.get(owner.name, [])
        if owner.identity != owner.name:
            conditions += self._of_owner.get(owner.identity, [])
        matched = [condition for condition in conditions if condition.holds(names, fine_tuned)]
        matched.sort(key=_position)
        return tuple(self.account(condition.budget, owner.identity, at) for condition in matched)

    def account(self, budget: Budget, owner_identity: str, at: datetime) -> Account:
        """The account of a budget at this moment; the owner counts only where the limit is per owner."""
        period = self.period(budget, at)
        identity = owner_identity if budget.per_owner else None
        key = (budget.name, period.id, identity)
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = Account(budget, period, identity)
            if len(self._accounts) > _ACCOUNTS_KEPT:
                self._accounts.popitem(last=False)
        return account

    def period(self, budget: Budget, at: datetime) -> Period:
        """The budget's period at this moment. Kept until it ends: time zone arithmetic is slow."""
        key = (budget.period, budget.timezone)
        period = self._periods.get(key)
        if period is None or not period.holds(at):
            period = self._periods[key] = period_at(budget.period, budget.timezone, at)
        return period


class _Condition:
    """What a budget asks of a request, but for the owner: that is the index."""

    def __init__(self, position: int, budget: Budget) -> None:
        self.position = position
        self.budget = budget
        self._fits = None if budget.model is None else _glob(budget.model)

    def holds(self, names: Collection[str], fine_tuned: bool | None) -> bool:
        if self.budget.fine_tuned is not None and self.budget.fine_tuned is not fine_tuned:
            return False
        return self._fits is None or any(map(self._fits, names))


def _position(condition: _Condition) -> int:
    return condition.position


def _glob(pattern: str) -> Callable[[str], object]:
    """Whole match, case sensitive, `*` any text, `?` any one character; nothing else is special (fnmatch has sets).

    A name comes from a caller and may be long. Each piece between stars is taken where it first fits and never
    reconsidered (an atomic group), which is right for globs and keeps the match from growing with a power of stars.
    """
    pieces = ["".join("." if char == "?" else re.escape(char) for char in piece) for piece in pattern.split("*")]
    if len(pieces) == 1:
        return re.compile(pieces[0], re.DOTALL).fullmatch
    first, *middle, last = pieces
    between = "".join(f"(?>.*?{piece})" for piece in middle if piece)
    return re.compile(f"{first}{between}.*{last}", re.DOTALL).fullmatch
