"""A raise: for the night when production must go on, a budget has a higher limit until a moment that is said."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from proxy.budgets.owner import Owner
from rates.money import Nanos


@dataclass(frozen=True, slots=True, kw_only=True)
class Raise:
    """It holds before `until` and ends by itself. A configured limit that is higher stays."""

    budget: str
    owner: str | None
    """For one owner of a budget whose limit is per owner, by shown name or identity; None: for each."""
    limit: Nanos
    until: datetime
    who: str
    why: str
    at: datetime


class Raises:
    """All raises, by whom they are for. An owner's own one goes before the one for each."""

    def __init__(self, raises: Iterable[Raise] = ()) -> None:
        self._by: Mapping[tuple[str, str | None], Raise] = {(each.budget, each.owner): each for each in raises}

    def __bool__(self) -> bool:
        return bool(self._by)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Raises) and self._by == other._by

    __hash__ = None  # type: ignore[assignment]

    def of(self, budget: str, identity: str | None, at: datetime) -> Raise | None:
        """The raise that holds now for an account of this budget."""
        whom = [None] if identity is None else [identity, Owner.of_identity(identity).name, None]
        found = (self._by.get((budget, each)) for each in whom)
        return next((each for each in found if each is not None and at < each.until), None)
