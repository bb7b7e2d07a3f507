"""Admission's no: the reasons, each as a sentence that says what stands in the way and what helps."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from proxy.budgets import MOST_ACCOUNTS, Account
from proxy.errors import StoreAway, StoreWiped
from proxy.store import Refusal
from rates import NotPriced
from rates.money import dollars_text

DenialReason = Literal["budget_exceeded", "budget_held", "model_not_priced", "store_unavailable", "too_many_budgets"]


class Denied(Exception):  # noqa: N818 - an answer, not a fault
    """The request may not pass. `budget` names the one that stands in the way, if it is one."""

    def __init__(self, reason: DenialReason, message: str, budget: str | None = None) -> None:
        super().__init__(message)
        self.reason: DenialReason = reason
        self.message = message
        self.budget = budget


def deny_unpriced(reason: NotPriced, refusing: Account | None, unpriced: str) -> None:
    """Raise Denied where a price is a condition: under a refusing budget, or where the operator said so."""
    if refusing is not None:
        name = refusing.budget.name
        raise Denied("model_not_priced", f"{reason}; budget {name} refuses what it cannot price", name) from reason
    if unpriced == "refuse":
        raise Denied("model_not_priced", f'{reason}; this proxy refuses what it cannot price (unpriced = "refuse")')


def too_many(accounts: Sequence[Account]) -> Denied:
    names = ", ".join(account.budget.name for account in accounts[:3])
    return Denied(
        "too_many_budgets",
        f"{len(accounts)} budgets ({names}, …) match this request, and at most {MOST_ACCOUNTS} may: the operator of "
        "this proxy has to join some or narrow them",
        accounts[0].budget.name,
    )


def deny(refusal: Refusal) -> Denied:
    """The store's no, in a sentence that says how much, of how much, and until when."""
    budget = refusal.account.budget
    end = refusal.account.period.end
    resets = f"; resets {rfc3339(end)}" if end else "; it does not reset"
    used = f"{dollars_text(refusal.spent)} of {dollars_text(budget.limit)} used"
    if refusal.reason == "budget_held":
        used += f" and {dollars_text(refusal.held)} held by requests under way"
        resets = ""
    return Denied(refusal.reason, f"budget {budget.name}: {used}{resets}", budget.name)


def deny_if_strict(accounts: Sequence[Account], away: StoreAway) -> None:
    """Raise Denied when one of these budgets refuses while the store is away; all that refuse do when it was wiped."""
    is_wiped = isinstance(away, StoreWiped)
    for account in accounts:
        budget = account.budget
        if budget.refuses and (is_wiped or budget.on_store_loss == "refuse"):
            why = "the store was wiped, and nobody has acknowledged it" if is_wiped else "the store is away"
            raise Denied("store_unavailable", f"budget {budget.name} cannot be checked: {why}", budget.name) from away


def rfc3339(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
