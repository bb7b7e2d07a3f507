"""Day sums: what reports are made from. One row a (UTC day, owner, served model, card, tier, …)."""

from collections.abc import Mapping
from dataclasses import dataclass

from proxy.ledger.entry import LedgerEntry


@dataclass(frozen=True, slots=True)
class SumKey:
    """What the entries of one row have in common. `card` is "" when unpriced; `long_context` is "1" or ""."""

    owner: str
    model: str
    card: str
    tier: str
    long_context: str
    endpoint: str
    status: str


@dataclass(frozen=True, slots=True)
class SumRow:
    """`day` is YYYY-MM-DD (UTC). `nanos` is the sum of what is priced; unpriced rows have 0 there and no card."""

    day: str
    key: SumKey
    requests: int
    quantities: Mapping[str, int]
    nanos: int


def sum_key(entry: LedgerEntry) -> SumKey:
    """The row that an entry belongs to."""
    return SumKey(
        owner=entry.owner,
        model=entry.served_model or entry.asked_model or "",
        card=entry.card or "",
        tier=entry.tier,
        long_context="1" if entry.long_context else "",
        endpoint=entry.endpoint,
        status=entry.status,
    )
