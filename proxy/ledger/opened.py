"""What is known of a request before its first upstream byte: enough to charge it when nobody lives to tell its end.

It is journalled, and kept in the store with the hold. No prompt text and no key is in it.
"""

import msgspec

from proxy.ledger.entry import LedgerEntry, Moved
from rates.money import Nanos


class MovedAccount(msgspec.Struct, frozen=True, array_like=True):
    """An account as the store needs it to move money: without the configuration that it came from."""

    budget: str
    key: str
    expires_at: str
    """Unix seconds; empty: never."""
    series: str
    owner: str
    """The identity that the series lists; empty: the limit is not per owner."""


class Opened(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A request that is about to be sent, or is under way. Fields are told by their place: new ones come last."""

    id: str
    at: str
    """UTC, RFC 3339."""
    owner: str
    identity: str
    endpoint: str
    asked_model: str | None
    model: str | None
    """The id that prices it, if the answer names no other."""
    tier: str
    card: str | None
    provenance: str | None
    assumed: bool
    long_context: bool
    usage: dict[str, int]
    """The quantities that the hold was priced with."""
    nanos: int | None
    """The hold; None: no card prices it."""
    accounts: tuple[MovedAccount, ...]
    """Whom it is charged to, if nothing else comes to be known."""
    client_request_id: str | None = None


def presumed(opened: Opened, reason: str, *, writer: str | None = None) -> LedgerEntry:
    """The entry of a request whose end nobody knows: it cost what was held for it."""
    nanos = opened.nanos
    return LedgerEntry(
        id=opened.id,
        at=opened.at,
        owner=opened.owner,
        identity=None if opened.identity == opened.owner else opened.identity,
        endpoint=opened.endpoint,
        asked_model=opened.asked_model,
        served_model=opened.model,
        tier=opened.tier,
        status="unpriced" if nanos is None else "presumed",
        reason=reason,
        counted_as="presumed" if nanos is None else None,
        usage=opened.usage,
        card=opened.card,
        provenance=opened.provenance,
        assumed=opened.assumed,
        long_context=opened.long_context,
        cost_nanos=nanos,
        moved=tuple(Moved(account.budget, account.key, nanos or 0) for account in opened.accounts),
        client_request_id=opened.client_request_id,
        writer=writer,
    )


class OpenedText(msgspec.Struct, frozen=True):
    """An Opened as the journal and the store keep it; `nanos` is its hold."""

    id: str
    nanos: Nanos | None
    text: str

    @property
    def opened(self) -> Opened:
        """The same again. Half a surrogate pair in it has become a question mark."""
        return _decode(self.text)


_decode = msgspec.json.Decoder(Opened).decode
