"""What past traffic costs on other cards: the new price of each entry, and what changes, by model.

Invariants: an entry that cannot be priced now keeps what it cost; one that failed goes on costing nothing; a price that
is the same is no change, so that re-pricing a second time finds none.
"""

from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from proxy.admission import Rules
from proxy.ledger.entry import LedgerEntry, Moved
from proxy.settlement import served_id
from rates import NotPriced, Usage, parse_model_name, price
from rates.money import Nanos, usd_text


@dataclass(slots=True)
class Repriced:
    """What becomes of the entries of one model (or of all). Costs are sums of what is priced."""

    model: str | None
    entries: int = 0
    unpriced: int = 0
    """Without a price so far."""
    unpriced_left: int = 0
    """Without a price still."""
    kept: int = 0
    """Priced so far, and not on these cards: they keep what they cost."""
    changed: int = 0
    old_nanos: Nanos = 0
    new_nanos: Nanos = 0

    @property
    def difference(self) -> Nanos:
        return self.new_nanos - self.old_nanos

    def as_json(self) -> dict[str, object]:
        return {
            "model": self.model,
            "entries": self.entries,
            "changed": self.changed,
            "unpriced": self.unpriced,
            "unpriced_left": self.unpriced_left,
            "kept": self.kept,
            "old_usd": usd_text(self.old_nanos),
            "new_usd": usd_text(self.new_nanos),
            "difference_usd": usd_text(self.difference),
            "old_nanos": self.old_nanos,
            "new_nanos": self.new_nanos,
            "difference_nanos": self.difference,
        }


@dataclass(slots=True)
class Repricing:
    """Prices entries again by these rules, and counts. `presumed`: those too whose usage nobody knows."""

    rules: Rules
    presumed: bool = False
    rows: dict[str | None, Repriced] = field(default_factory=dict)
    total: Repriced = field(default_factory=lambda: Repriced(None))

    def replacement(self, entry: LedgerEntry) -> LedgerEntry | None:
        """What is to stand instead of an entry that is in force; None: it stays."""
        new = self._priced(entry)
        model = (new or entry).served_model or entry.asked_model
        row = self.rows.setdefault(model, Repriced(model))
        changed = new is not None and new.cost_nanos != entry.cost_nanos
        after = new.cost_nanos if new is not None and changed else entry.cost_nanos
        for counted in (row, self.total):
            counted.entries += 1
            counted.changed += changed
            counted.unpriced += entry.cost_nanos is None
            counted.unpriced_left += after is None
            counted.kept += new is None and entry.cost_nanos is not None and self._may(entry)
            counted.old_nanos += entry.cost_nanos or 0
            counted.new_nanos += after or 0
        return new if changed else None

    def in_order(self) -> list[Repriced]:
        """By what changes most."""
        return sorted(self.rows.values(), key=lambda row: (-abs(row.difference), -row.new_nanos, row.model or ""))

    def _may(self, entry: LedgerEntry) -> bool:
        return entry.status != "failed" and (entry.status != "presumed" or self.presumed)

    def _priced(self, entry: LedgerEntry) -> LedgerEntry | None:
        if not self._may(entry):
            return None
        served = served_id(self.rules, entry.asked_model, entry.served_model)
        if served is None:
            return None
        try:
            found = self.rules.find(parse_model_name(served), entry.tier, datetime.fromisoformat(entry.at))
            charge = price(Usage.of(entry.usage), found.card)
        except (NotPriced, ValueError):  # ValueError: a usage that is none, as of a line that somebody made up
            return None
        unpriced = entry.status == "unpriced"
        return msgspec.structs.replace(
            entry,
            served_model=served,
            tier=found.card.tier,
            status=(entry.counted_as or "reported") if unpriced else entry.status,
            reason="repriced" if unpriced else entry.reason,
            counted_as=None,
            card=found.card.id,
            provenance=found.provenance,
            # An estimate's may be about how it was counted, which no card mends.
            assumed=found.assumed or charge.assumed or (entry.status == "estimated" and entry.assumed),
            long_context=charge.long_context,
            cost_nanos=charge.nanos,
            moved=tuple(Moved(moved.budget, moved.period, charge.nanos) for moved in entry.moved),
        )
