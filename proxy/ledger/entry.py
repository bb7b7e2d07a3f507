"""The ledger entry: one attempt that reached an upstream, priced once, never edited."""

from typing import Literal

import msgspec

Status = Literal["reported", "estimated", "presumed", "unpriced", "failed"]


class Moved(msgspec.Struct, frozen=True, array_like=True):
    """What an entry added to one budget: the budget's name, the key of its period account, and nanos."""

    budget: str
    period: str
    nanos: int


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the ledger. Times are UTC, RFC 3339; nanos are integers; what is unknown is None.

    Invariants: `cost_nanos` is None exactly when `status` is "unpriced"; a "failed" entry costs 0;
    `moved` is empty or every amount in it equals `cost_nanos`.
    """

    id: str
    line: Literal["entry", "correction"] = "entry"
    kind: Literal["inference", "training", "hosting"] = "inference"
    at: str
    owner: str
    endpoint: str
    asked_model: str | None
    served_model: str | None
    tier: str
    status: Status
    reason: str | None = None
    """Why it is estimated, presumed or unpriced, in a word: client_left, stream_broke, no_usage, no_card, …"""
    usage: dict[str, int]
    card: str | None
    provenance: str | None
    assumed: bool = False
    long_context: bool = False
    cost_nanos: int | None
    moved: tuple[Moved, ...] = ()
    upstream_id: str | None = None
    client_request_id: str | None = None
    upstream_status: int | None = None
    latency_ms: int | None = None
