"""Budgets, accounts and ledger entries for tests, short to write."""

from datetime import UTC, date, datetime
from typing import Any

from proxy.budgets import Account, Budget, PeriodKind, period_at
from proxy.ledger.entry import LedgerEntry
from proxy.ledger.opened import Opened
from proxy.ledger.parked import Parked
from proxy.store import moved_account
from rates.money import Nanos

AT = datetime.now(UTC)
TODAY: date = AT.date()


def account(
    name: str = "b",
    *,
    limit: Nanos = 1000,
    period: str = "month",
    refuses: bool = True,
    owner: str | None = None,
    at: datetime = AT,
) -> Account:
    kind = PeriodKind(period)
    budget = Budget(
        name=name,
        limit=limit,
        period=kind,
        per_owner=owner is not None,
        on_exceed="refuse" if refuses else "alert",
    )
    return Account(budget, period_at(kind, "UTC", at), owner)


def entry(entry_id: str = "e1", cost: Nanos | None = 100, **changes: Any) -> LedgerEntry:
    values: dict[str, Any] = {
        "id": entry_id,
        "at": AT.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "owner": "acme",
        "endpoint": "chat/completions",
        "asked_model": "gpt-4o-mini",
        "served_model": "gpt-4o-mini-2024-07-18",
        "tier": "standard",
        "status": "unpriced" if cost is None else "reported",
        "usage": {"input": 10, "output": 5},
        "card": None if cost is None else "openai/gpt-4o-mini",
        "provenance": None if cost is None else "exact",
        "cost_nanos": cost,
    }
    return LedgerEntry(**{**values, **changes})


def opened(entry_id: str = "e1", nanos: Nanos | None = 100, *accounts: Account, **changes: Any) -> Opened:
    """A request with this hold; `accounts` are charged if its end stays unknown."""
    values: dict[str, Any] = {
        "id": entry_id,
        "at": AT.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "owner": "acme",
        "identity": "acme",
        "endpoint": "chat/completions",
        "asked_model": "gpt-4o-mini",
        "model": "gpt-4o-mini",
        "tier": "standard",
        "card": None if nanos is None else "openai/gpt-4o-mini",
        "provenance": None if nanos is None else "family",
        "assumed": False,
        "long_context": False,
        "usage": {"input": 12, "output": 50},
        "nanos": nanos,
        "accounts": tuple(map(moved_account, accounts)),
        "client_request_id": "c1",
    }
    return Opened(**{**values, **changes})


def parked_request(entry_id: str = "e1") -> Parked:
    return Parked(
        entry_id=entry_id,
        at=AT.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        owner="acme",
        endpoint="responses",
        asked_model="gpt 4 5\n6 mini",
        client_request_id="caf\udce9",
        prompt_tokens=12,
    )
