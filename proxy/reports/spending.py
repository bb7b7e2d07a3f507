"""What was spent: day sums grouped by what the reader asks for.

Invariants: every sum row lands in exactly one report row, and one that corrections have emptied is not shown; rows add
up to the total, in nanos; what no card prices is counted and never adds a cost, and a row of nothing else has no cost
(None) rather than zero.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from proxy.ledger.sums import SumRow
from rates.model_name import parse_model_name
from rates.money import Nanos, usd_text
from rates.usage import KINDS

GROUP_KEYS = ("model", "base_model", "fine_tuned", "owner", "day")
GroupValue = str | bool | None
_STATUS_COUNTS = {
    "unpriced": "unpriced_requests",
    "estimated": "estimated_requests",
    "presumed": "presumed_requests",
    "failed": "failed_requests",
}


@dataclass(slots=True)
class Spending:
    """What the requests of one row (or all of them) used and cost. `keys` is empty for the total."""

    keys: dict[str, GroupValue] = field(default_factory=dict)
    requests: int = 0
    unpriced_requests: int = 0
    estimated_requests: int = 0
    presumed_requests: int = 0
    failed_requests: int = 0
    quantities: dict[str, int] = field(default_factory=dict)
    priced_nanos: Nanos = 0

    @property
    def cost_nanos(self) -> Nanos | None:
        """None when there were requests and every one of them is unpriced: unknown is not zero."""
        unknown = self.requests > 0 and self.unpriced_requests == self.requests and self.priced_nanos == 0
        return None if unknown else self.priced_nanos

    @property
    def tokens(self) -> dict[str, int]:
        """The quantities that are tokens, in the order of `rates.usage`."""
        return {kind: n for kind, n in self._ordered() if not kind.endswith(("_calls", "_sessions"))}

    @property
    def calls(self) -> dict[str, int]:
        """The quantities that are counted in pieces."""
        return {kind: n for kind, n in self._ordered() if kind.endswith(("_calls", "_sessions"))}

    def _ordered(self) -> list[tuple[str, int]]:
        place = {kind: position for position, kind in enumerate(KINDS)}
        used = [pair for pair in self.quantities.items() if pair[1]]
        return sorted(used, key=lambda pair: place.get(pair[0], len(place)))

    @property
    def is_empty(self) -> bool:
        """Corrections have taken back all that it ever had."""
        return not (self.requests or self.priced_nanos or any(self.quantities.values()))

    def add(self, row: SumRow) -> None:
        self.requests += row.requests
        self.priced_nanos += row.nanos
        count = _STATUS_COUNTS.get(row.key.status)
        if count is not None:
            setattr(self, count, getattr(self, count) + row.requests)
        for kind, quantity in row.quantities.items():
            self.quantities[kind] = self.quantities.get(kind, 0) + quantity

    def as_json(self) -> dict[str, object]:
        return {
            **self.keys,
            "requests": self.requests,
            "unpriced_requests": self.unpriced_requests,
            "estimated_requests": self.estimated_requests,
            "presumed_requests": self.presumed_requests,
            "failed_requests": self.failed_requests,
            "tokens": self.tokens,
            "calls": self.calls,
            "cost_usd": usd_text(self.cost_nanos),
            "cost_nanos": self.cost_nanos,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """Rows by cost, highest first, rows without a cost last; by day first when days lead."""

    by: tuple[str, ...]
    rows: tuple[Spending, ...]
    total: Spending

    def as_json(self) -> dict[str, object]:
        return {"rows": [row.as_json() for row in self.rows], "total": self.total.as_json()}


def group(rows: Iterable[SumRow], by: Sequence[str], models: Mapping[str, str] | None = None) -> Report:
    """Group by some of GROUP_KEYS. `models` (deployment or alias → model id) says what an alias really is."""
    aliases = {} if models is None else models
    traits: dict[str, tuple[str | None, bool | None]] = {}
    found: dict[tuple[GroupValue, ...], Spending] = {}
    total = Spending()
    for row in rows:
        model = row.key.model
        if model not in traits:
            traits[model] = _traits(aliases.get(model, model))
        base_model, fine_tuned = traits[model]
        values: dict[str, GroupValue] = {
            "model": model or None,
            "base_model": base_model,
            "fine_tuned": fine_tuned,
            "owner": row.key.owner,
            "day": row.day,
        }
        keys = tuple(values[key] for key in by)
        if keys not in found:
            found[keys] = Spending(keys=dict(zip(by, keys, strict=True)))
        found[keys].add(row)
        total.add(row)
    shown = [each for each in found.values() if not each.is_empty]
    return Report(tuple(by), tuple(sorted(shown, key=lambda each: _order(each, by))), total)


def _traits(model: str) -> tuple[str | None, bool | None]:
    """Base model and whether it is fine-tuned; both unknown when no model is known."""
    if not model:
        return None, None
    name = parse_model_name(model)
    return name.base_model, name.fine_tuned


def _order(row: Spending, by: Sequence[str]) -> tuple[str, bool, int, tuple[str, ...]]:
    day = str(row.keys["day"]) if by and by[0] == "day" else ""
    cost = row.cost_nanos
    return day, cost is None, -(cost or 0), tuple(str(value) for value in row.keys.values())
