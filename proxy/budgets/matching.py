"""The book of budgets: which accounts a request belongs to. Budgets of other owners and models cost it nothing."""

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Self

from proxy.budgets.account import Account
from proxy.budgets.budget import Budget
from proxy.budgets.glob import GlobIndex, fits
from proxy.budgets.owner import Owner
from proxy.budgets.period import Period, PeriodKind, period_at
from proxy.budgets.raised import Raises
from rates.money import Nanos

_ACCOUNTS_KEPT = 8192  # accounts made once and used again; about 500 bytes each
_ANSWERS_KEPT = 4096  # matches found once and used again: owners ask for the same models over and over

_Asked = tuple[Owner, tuple[str, ...], bool | None]


class BudgetBook:
    """All budgets of a configuration, found by owner and model, with the raises that hold now. Names are unique."""

    def __init__(self, budgets: Iterable[Budget]) -> None:
        self.budgets = tuple(budgets)
        if len({budget.name for budget in self.budgets}) != len(self.budgets):
            raise ValueError("two budgets have the same name")
        self._of_anybody = _Conditions()
        self._of_owner: defaultdict[str, _Conditions] = defaultdict(_Conditions)
        for position, budget in enumerate(self.budgets):
            home = self._of_anybody if budget.owner is None else self._of_owner[budget.owner]
            home.add(_Condition(position, budget))
        self._answers: OrderedDict[_Asked, tuple[Budget, ...]] = OrderedDict()
        self._matched: dict[_Asked, tuple[Raises, tuple[Account, ...]]] = {}
        self._periods: dict[tuple[PeriodKind, str], Period] = {}
        self._accounts: OrderedDict[tuple[str, str, str | None, Nanos], Account] = OrderedDict()
        self.raises = Raises()

    def with_raises(self, raises: Raises) -> Self:
        """The same budgets under other raises. Cheap: whatever was indexed or found is shared."""
        book = self.__class__.__new__(self.__class__)
        book.__dict__.update(self.__dict__, raises=raises)
        return book

    def matching(
        self, owner: Owner, names: Sequence[str], fine_tuned: bool | None, at: datetime
    ) -> tuple[Account, ...]:
        """The accounts of every budget that matches, in the order of the configuration.

        `names` are the asked and served names: one that fits is enough. A budget's owner may be a shown name or a
        whole identity. `fine_tuned` None means unknown: only budgets without that condition match.
        """
        asked = (owner, tuple(names), fine_tuned)
        known = self._matched.get(asked)
        if known is not None and known[0] is self.raises and all(account.period.holds(at) for account in known[1]):
            return known[1]
        accounts = self._match(asked, at)
        if not self.raises:  # a raise ends by itself
            if len(self._matched) >= _ANSWERS_KEPT:
                self._matched.clear()
            self._matched[asked] = (self.raises, accounts)
        return accounts

    def _match(self, asked: _Asked, at: datetime) -> tuple[Account, ...]:
        budgets = self._answers.get(asked)
        if budgets is None:
            budgets = self._answers[asked] = self.budgets_for(*asked)
            if len(self._answers) > _ANSWERS_KEPT:
                self._answers.popitem(last=False)
        return tuple(self.account(budget, asked[0].identity, at) for budget in budgets)

    def account(self, budget: Budget, owner_identity: str, at: datetime) -> Account:
        """The account of a budget at this moment; the owner counts only where the limit is per owner."""
        period = self.period(budget, at)
        identity = owner_identity if budget.per_owner else None
        limit = budget.limit
        if self.raises and (raised := self.raises.of(budget.name, identity, at)) is not None:
            limit = max(limit, raised.limit)
        key = (budget.name, period.id, identity, limit)
        account = self._accounts.get(key)
        if account is None:
            account = Account(budget if limit == budget.limit else replace(budget, limit=limit), period, identity)
            self._accounts[key] = account
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

    def budgets_for(self, owner: Owner, names: Sequence[str], fine_tuned: bool | None) -> tuple[Budget, ...]:
        """The budgets alone, found anew."""
        owners = {owner.name, owner.identity}
        homes = [self._of_anybody, *(self._of_owner[who] for who in owners if who in self._of_owner)]
        found = {
            condition.position: condition.budget
            for home in homes
            for condition in home.candidates(names)
            if condition.holds(names, fine_tuned)
        }
        return tuple(found[position] for position in sorted(found))


class _Condition:
    """What a budget asks of a request, but for the owner: that is the index."""

    def __init__(self, position: int, budget: Budget) -> None:
        self.position = position
        self.budget = budget
        self._fits = None if budget.model is None else fits(budget.model)

    def holds(self, names: Sequence[str], fine_tuned: bool | None) -> bool:
        if self.budget.fine_tuned is not None and self.budget.fine_tuned is not fine_tuned:
            return False
        return self._fits is None or any(map(self._fits, names))


class _Conditions:
    """The conditions of one owner, or of anybody, found by model."""

    def __init__(self) -> None:
        self._of_any_model: list[_Condition] = []
        self._of_model: GlobIndex[_Condition] = GlobIndex()

    def add(self, condition: _Condition) -> None:
        if condition.budget.model is None:
            self._of_any_model.append(condition)
        else:
            self._of_model.add(condition.budget.model, condition)

    def candidates(self, names: Sequence[str]) -> Iterable[_Condition]:
        yield from self._of_any_model
        yield from self._of_model.candidates(names)
