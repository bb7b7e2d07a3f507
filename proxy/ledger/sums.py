"""Day sums: what reports are made from. One row a (UTC day, owner, served model, card, tier, …)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from proxy.ledger.entry import LedgerEntry
from proxy.ledger.texts import encode, plain


class SumKey(NamedTuple):
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
        entry.owner,
        entry.served_model or entry.asked_model or "",
        entry.card or "",
        entry.tier,
        "1" if entry.long_context else "",
        entry.endpoint,
        entry.status,
    )


@lru_cache(maxsize=16_384)
def row_of(key: SumKey) -> str:
    """The beginning of the fields of a row of day sums; the quantity's name follows. JSON ends where its `]` is."""
    return encode([plain(part) for part in key]).decode()


def quantities_of(line: LedgerEntry) -> Iterator[tuple[str, int]]:
    """What a line adds to its row: `requests`, each kind of usage, and `nanos` where it is priced and costs any."""
    yield "requests", line.requests
    yield from line.usage.items()
    if line.cost_nanos:
        yield "nanos", line.cost_nanos
