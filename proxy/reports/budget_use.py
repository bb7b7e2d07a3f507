"""A budget's standing in its current period, for one owner where the limit holds for each owner apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal

from proxy.budgets import Raise
from rates.money import EXACT, Nanos, usd_text

_RATIO_PLACES = Decimal("0.000001")


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetUse:
    """`limit` is what holds now. `owner` is what is shown of an owner; None with `per` set: no owner has spent yet."""

    name: str
    period: str
    limit: Nanos
    spent: Nanos
    held: Nanos
    resets_at: datetime | None
    alert_at: Sequence[Decimal] = ()
    per: str | None = None
    owner: str | None = None
    used_up_at: datetime | None = None
    """At the pace of the period so far. None: not in this period, or nobody can say."""
    raised: Raise | None = None
    """Why the limit is higher than the one of the configuration."""

    @property
    def used_ratio(self) -> Decimal | None:
        """The share of the limit that is spent, exact. None for a limit of zero: no share of nothing is known."""
        return EXACT.divide(Decimal(self.spent), Decimal(self.limit)) if self.limit else None

    @property
    def used_up(self) -> bool:
        return self.spent >= self.limit

    @property
    def alerting(self) -> bool:
        """The lowest threshold is reached."""
        ratio = self.used_ratio
        return bool(self.alert_at) and ratio is not None and ratio >= min(self.alert_at)

    def as_json(self) -> dict[str, object]:
        ratio = self.used_ratio
        rounded = None if ratio is None else float(ratio.quantize(_RATIO_PLACES, ROUND_HALF_EVEN, EXACT))
        return {
            "name": self.name,
            "period": self.period,
            "per": self.per,
            "owner": self.owner,
            "limit_usd": usd_text(self.limit),
            "spent_usd": usd_text(self.spent),
            "held_usd": usd_text(self.held),
            "used_ratio": rounded,
            "resets_at": None if self.resets_at is None else rfc3339(self.resets_at),
            "used_up_at": None if self.used_up_at is None else rfc3339(self.used_up_at),
            "raised": None if self.raised is None else _raise_json(self.raised),
        }


def rfc3339(at: datetime) -> str:
    """UTC with a Z, whole seconds."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _raise_json(raised: Raise) -> dict[str, object]:
    return {
        "to_usd": usd_text(raised.limit),
        "until": rfc3339(raised.until),
        "who": raised.who,
        "why": raised.why,
        "at": rfc3339(raised.at),
    }


def budgets_json(uses: Sequence[BudgetUse]) -> dict[str, object]:
    return {"budgets": [use.as_json() for use in uses]}
