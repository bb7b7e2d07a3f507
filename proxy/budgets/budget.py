"""A budget: a limit over a period for the traffic it matches."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from proxy.budgets.period import PeriodKind
from proxy.config import BudgetConfig
from rates.money import Nanos


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What matches all of owner, model and fine_tuned counts; None matches everything.

    The name is the identity: a budget whose limit or conditions change keeps what it has spent.
    """

    name: str
    limit: Nanos
    period: PeriodKind
    timezone: str = "UTC"
    owner: str | None = None
    model: str | None = None
    """A glob with `*` and `?`, on the asked or the served name."""
    fine_tuned: bool | None = None
    per_owner: bool = False
    """The limit holds for each owner apart."""
    alert_at: tuple[Decimal, ...] = (Decimal("0.8"), Decimal(1))
    on_exceed: Literal["refuse", "alert"] = "refuse"
    on_store_loss: Literal["allow", "refuse"] = "allow"
    backfill: bool = False
    """Lines of the ledger's running period that do not name it count for it too."""

    @property
    def refuses(self) -> bool:
        """Whether a request that does not fit is turned away."""
        return self.on_exceed == "refuse"


def budget_from(record: BudgetConfig) -> Budget:
    """The budget that a configuration record describes."""
    return Budget(
        name=record.name,
        limit=record.limit_nanos,
        period=PeriodKind(record.period),
        timezone=record.timezone,
        owner=record.owner,
        model=record.model,
        fine_tuned=record.fine_tuned,
        per_owner=record.per == "owner",
        alert_at=record.alert_at,
        on_exceed=record.on_exceed,
        on_store_loss=record.on_store_loss,
        backfill=record.backfill,
    )
