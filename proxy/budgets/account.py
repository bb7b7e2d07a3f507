"""An account: one budget in one period, and for one owner where the limit holds for each apart."""

from dataclasses import dataclass, field
from urllib.parse import quote

from proxy.budgets.budget import Budget
from proxy.budgets.period import Period

KEPT_AFTER_PERIOD_SECONDS = 90 * 86_400


@dataclass(frozen=True, slots=True)
class Account:
    """What the store keeps `committed` and `held` for.

    Different accounts have different keys, whatever characters their names contain: each part is percent-encoded, so
    the slash only separates. The limit is no part of the key: a limit that changes keeps what was spent.
    """

    budget: Budget
    period: Period
    owner_identity: str | None = None
    series: str = field(init=False, repr=False, compare=False)
    """What all accounts of this budget in this period have in common: the key without the owner."""
    key: str = field(init=False, repr=False, compare=False)
    ends_at: int | None = field(init=False, repr=False, compare=False)
    """The end of the period as Unix seconds; None: it never ends."""
    expires_at: str = field(init=False, repr=False, compare=False)
    """When the store forgets it, as Unix seconds; empty: never."""
    owner: str = field(init=False, repr=False, compare=False)
    """The identity that the series lists; empty: the limit is not per owner."""

    def __post_init__(self) -> None:
        if self.budget.per_owner != (self.owner_identity is not None):
            raise ValueError(
                f'budget "{self.budget.name}": an account has an owner exactly when the limit is per owner'
            )
        series = f"{_encoded(self.budget.name)}/{_encoded(self.period.id)}"
        object.__setattr__(self, "series", series)
        end = self.period.end
        ends_at = None if end is None else int(end.timestamp())
        object.__setattr__(self, "ends_at", ends_at)
        object.__setattr__(self, "expires_at", "" if ends_at is None else str(ends_at + KEPT_AFTER_PERIOD_SECONDS))
        owner = self.owner_identity
        object.__setattr__(self, "owner", owner or "")
        object.__setattr__(self, "key", series if owner is None else f"{series}/{_encoded(owner)}")


def series_of(budget: Budget, period: Period) -> str:
    """The key of a budget in a period; a budget whose limit is per owner has many accounts in it."""
    return f"{_encoded(budget.name)}/{_encoded(period.id)}"


def _encoded(part: str) -> str:
    # A lone surrogate is no text that a configuration can hold, but a key must never be the thing that raises.
    return quote(part, safe="", errors="surrogatepass")
