"""A line of the ledger as the store takes it: its text, and what it adds to its row of day sums.

Like requests have most of their lines in common: see `forms`.
"""

from collections.abc import Mapping

import msgspec

from proxy.ledger.entry import LedgerEntry
from proxy.ledger.sums import quantities_of, row_of, sum_key
from proxy.ledger.texts import text
from rates.money import Nanos

_decode = msgspec.json.Decoder(LedgerEntry).decode
DAY = len("2026-11-28")


class LineText(msgspec.Struct, frozen=True):
    """`row` and `quantities` (kind, number, …) are what it adds to the sums of its UTC `day`; `nanos` is 0 if unknown.

    `moves`: it is charged to accounts, though it may be free or have no price yet.
    """

    id: str
    day: str
    row: str
    quantities: list[str]
    nanos: Nanos
    moves: bool
    text: str

    @property
    def entry(self) -> LedgerEntry:
        """The line again. Half a surrogate pair in it has become a question mark."""
        return _decode(self.text)


def line_text(entry: LedgerEntry) -> LineText:
    """As the store takes it."""
    quantities: list[str] = []
    for kind, number in quantities_of(entry):
        quantities += kind, str(number)
    return LineText(
        entry.id,
        entry.at[:DAY],
        row_of(sum_key(entry)),
        quantities,
        entry.cost_nanos or 0,
        # What is free, or has no price yet, may get one: its accounts must be there.
        entry.status != "failed",
        text(entry),
    )


class LinePieces(msgspec.Struct):
    """A LedgerEntry of which some members that stand together are one piece, written before."""

    id: str
    line: msgspec.Raw
    at: str
    owner: msgspec.Raw
    usage: Mapping[str, int]
    card: msgspec.Raw
    assumed: bool
    long_context: bool
    cost_nanos: Nanos
    moved: list[tuple[str, str, Nanos]]
    upstream_id: str | None
    client_request_id: str | None
    upstream_request_id: str | None
    upstream_status: int | None
    latency_ms: int | None
    writer: None = None
