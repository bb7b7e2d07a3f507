"""Counts for budgets with `backfill = true` what the ledger has of their running period and does not name them.

Not only once: a proxy that has not read the new configuration yet writes such lines too.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from proxy.budgets import BudgetBook
from proxy.errors import StoreRefused
from proxy.store import Store
from rates.money import dollars_text

EVERY_SECONDS = 5.0

log = logging.getLogger("taximeter")


class Backfill:
    """One job for all such budgets."""

    name = "backfill"
    every_seconds = EVERY_SECONDS

    def __init__(
        self, store: Store, book: BudgetBook, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._store = store
        self._book = BudgetBook(budget for budget in book.budgets if budget.backfill)
        self._now = now
        self._said: set[str] = set()

    async def run(self) -> None:
        """Raises StoreAway."""
        for budget in self._book.budgets:
            try:
                counted = await self._store.backfill(self._book, budget, self._now())
            except StoreRefused as problem:
                if str(problem) not in self._said:
                    self._said.add(str(problem))
                    log.error("%s", problem)  # noqa: TRY400 - a finding, not a fault
                continue
            if counted:
                log.info("budget %s: %s of the ledger's entries were added", budget.name, dollars_text(counted))
