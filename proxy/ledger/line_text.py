"""A line of the ledger as the store takes it: its text, and what it adds to its row of day sums.

Like requests have most of their lines in common: a `LineForm` has that part written once. What comes from outside is
written by the encoder each time.
"""

from collections.abc import Iterable, Mapping

import msgspec

from proxy.ledger.entry import LedgerEntry, Status
from proxy.ledger.sums import SumKey, quantities_of, row_of, sum_key
from proxy.ledger.texts import encode, members, plain_or_none, text
from rates.money import Nanos

_decode = msgspec.json.Decoder(LedgerEntry).decode
_BEGINNING = members(line="entry", kind="inference", requests=1)
_DAY = len("2026-11-28")


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
        entry.at[:_DAY],
        row_of(sum_key(entry)),
        quantities,
        entry.cost_nanos or 0,
        # What is free, or has no price yet, may get one: its accounts must be there.
        entry.status != "failed",
        text(entry),
    )


class _Line(msgspec.Struct):
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


class LineForm:
    """What priced lines of like requests have in common."""

    __slots__ = ("_card", "_long_row", "_moved", "_owner", "_row")

    def __init__(
        self,
        *,
        owner: str,
        identity: str,
        endpoint: str,
        asked_model: str | None,
        served_model: str | None,
        tier: str,
        status: Status,
        reason: str | None,
        card: str,
        provenance: str,
        moved: Iterable[tuple[str, str]],
    ) -> None:
        """`moved`: names and keys of the accounts that are charged."""
        self._owner = members(
            owner=plain_or_none(owner),
            identity=None if identity == owner else plain_or_none(identity),
            endpoint=plain_or_none(endpoint),
            asked_model=plain_or_none(asked_model),
            served_model=plain_or_none(served_model),
            tier=plain_or_none(tier),
            status=status,
            reason=plain_or_none(reason),
            counted_as=None,
        )
        self._card = members(card=plain_or_none(card), provenance=provenance)
        self._moved = tuple(moved)
        model = served_model or asked_model or ""
        self._row = row_of(SumKey(owner, model, card, tier, "", endpoint, status))
        self._long_row = row_of(SumKey(owner, model, card, tier, "1", endpoint, status))

    def line(
        self,
        entry_id: str,
        at: str,
        usage: dict[str, int],
        nanos: Nanos,
        *,
        assumed: bool,
        long_context: bool,
        upstream_id: str | None,
        client_request_id: str | None,
        upstream_request_id: str | None,
        upstream_status: int | None,
        latency_ms: int | None,
    ) -> LineText:
        """The line of a request. The usage has no zeros."""
        quantities = ["requests", "1"]
        for kind, number in usage.items():
            quantities.append(kind)
            quantities.append(str(number))
        if nanos:
            quantities.append("nanos")
            quantities.append(str(nanos))
        line = _Line(
            entry_id,
            _BEGINNING,
            at,
            self._owner,
            usage,
            self._card,
            assumed,
            long_context,
            nanos,
            [(budget, key, nanos) for budget, key in self._moved],
            upstream_id,
            client_request_id,
            upstream_request_id,
            upstream_status,
            latency_ms,
        )
        try:
            written = encode(line).decode()
        except UnicodeEncodeError:
            written = text(line)
        row = self._long_row if long_context else self._row
        return LineText(entry_id, at[:_DAY], row, quantities, nanos, True, written)
