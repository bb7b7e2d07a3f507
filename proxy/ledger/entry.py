"""The ledger entry: one attempt that reached an upstream, priced once, never edited."""

from typing import Literal, Self

import msgspec

Status = Literal["reported", "estimated", "presumed", "unpriced", "failed"]


LONGEST_ID = 512  # characters: the API's own limit of X-Client-Request-Id


def kept_id(text: str | None) -> str | None:
    """An id as a line keeps it: None where it is longer than any, for it may come from a caller."""
    return text if text is not None and len(text) <= LONGEST_ID else None


class Moved(msgspec.Struct, frozen=True, array_like=True):
    """What an entry added to one budget: the budget's name, the key of its period account, and nanos."""

    budget: str
    period: str
    nanos: int


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the ledger. Times are UTC, RFC 3339; nanos are integers; what is unknown is None.

    Invariants: `cost_nanos` is None exactly when `status` is "unpriced"; a "failed" entry costs 0;
    every amount in `moved` equals `cost_nanos`, or is 0 where that is None.

    Lines are deltas: sums over entries are plain sums over lines. A correction is two lines with the id of what it
    corrects: its reversal, and what is true instead. The current entry of an id is its last line with `requests` 1;
    exactly one line of an id has `line` "entry".
    """

    id: str
    line: Literal["entry", "correction"] = "entry"
    kind: Literal["inference", "training", "hosting"] = "inference"
    requests: int = 1
    """1, or -1 for a reversal: then usage, cost and moved are negative too."""
    at: str
    owner: str
    identity: str | None = None
    """The owner's identity where it is more than the name that is shown (`key-` and 8 of 64 digits)."""
    endpoint: str
    asked_model: str | None
    served_model: str | None
    tier: str
    status: Status
    reason: str | None = None
    """Why it is estimated, presumed or unpriced, in a word: client_left, stream_broke, no_usage, no_card, …"""
    counted_as: Literal["reported", "estimated", "presumed"] | None = None
    """Of an unpriced entry: what its status is when it gets a price."""
    usage: dict[str, int]
    card: str | None
    provenance: str | None
    assumed: bool = False
    long_context: bool = False
    cost_nanos: int | None
    moved: tuple[Moved, ...] = ()
    upstream_id: str | None = None
    client_request_id: str | None = None
    upstream_request_id: str | None = None
    """The upstream's `x-request-id`: what its support asks for."""
    upstream_status: int | None = None
    latency_ms: int | None = None
    writer: str | None = None
    """Whose hold a sweeper turned into this entry: that writer may still live, and then corrects it."""

    def reversed(self) -> Self:
        """The line that takes this one back. All else in it says what it takes back."""
        return msgspec.structs.replace(
            self,
            line="correction",
            requests=-self.requests,
            usage={kind: -quantity for kind, quantity in self.usage.items()},
            cost_nanos=None if self.cost_nanos is None else -self.cost_nanos,
            moved=tuple(Moved(each.budget, each.period, -each.nanos) for each in self.moved),
        )
