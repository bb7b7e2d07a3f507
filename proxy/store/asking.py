"""Who asks the store, waits for its answer, and what that may be."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Literal, Protocol

from proxy.budgets import Account
from proxy.errors import JournalFailed, StoreAway
from rates.money import Nanos

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The account that stands in the way, as it was at that moment.

    `budget_exceeded`: what is spent leaves no room, and waiting does not help. `budget_held`: only holds of requests
    under way are in the way.
    """

    account: Account
    reason: Literal["budget_exceeded", "budget_held"]
    spent: Nanos
    held: Nanos

    @classmethod
    def of(cls, account: Account, amount: Nanos, spent: Nanos, held: Nanos) -> "Refusal":
        """Of a hold of this amount."""
        is_exceeded = spent + amount > account.budget.limit
        return cls(account, "budget_exceeded" if is_exceeded else "budget_held", spent, held)

    def leaves(self, amount: Nanos) -> bool:
        """Whether a hold of this amount would have fitted."""
        return self.spent + self.held + amount <= self.account.budget.limit


class Waiter(Protocol):
    """Hears of its answer once, and never within the call that asked. It may ask and tell the store more."""

    def held(self) -> None:
        """The money is set aside; or, of a check, there is some."""

    def refused(self, refusal: Refusal) -> None:
        """Nothing is held."""

    def store_failed(self, error: StoreAway) -> None:
        """Nothing is held, or it is being given back."""

    def journal_failed(self, error: JournalFailed) -> None:
        """The request must not be sent. What was held is being given back."""


class Answer:
    """Waits with a future."""

    __slots__ = ("future",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[Refusal | None] = loop.create_future()

    def held(self) -> None:
        if not self.future.done():
            self.future.set_result(None)

    def refused(self, refusal: Refusal) -> None:
        if not self.future.done():
            self.future.set_result(refusal)

    def store_failed(self, error: StoreAway) -> None:
        if not self.future.done():
            self.future.set_exception(error)

    def journal_failed(self, error: JournalFailed) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Asked:
    """An operation that somebody may wait for. `given_up`: nobody waits any more, so it need not be sent (again).

    `waiter`: who waits, until he was told. `opens`: he is told that it is held when that was journalled too.
    `deadline`: so long he waits, by the event loop's clock. `outcome`: what he is told; None where all is well.
    """

    __slots__ = ("deadline", "given_up", "opens", "outcome", "sent", "waiter")

    def __init__(self) -> None:
        self.waiter: Waiter | None = None
        self.opens = False
        self.deadline = 0.0
        self.sent = False
        self.given_up = False
        self.outcome: Refusal | StoreAway | JournalFailed | None = None

    def tell(self, refusal: Refusal | None) -> None:
        self.outcome = refusal

    def fail(self, why: str) -> None:
        self.outcome = StoreAway(why)


def tell(waiter: Waiter, outcome: Refusal | StoreAway | JournalFailed | None) -> None:
    """His fault stays his own: others wait for the same batch."""
    try:
        if outcome is None:
            waiter.held()
        elif isinstance(outcome, Refusal):
            waiter.refused(outcome)
        elif isinstance(outcome, JournalFailed):
            waiter.journal_failed(outcome)
        else:
            waiter.store_failed(outcome)
    except Exception:
        log.exception("internal fault of somebody who waited for the store")
