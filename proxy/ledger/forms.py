"""Forms: what the records of like requests have in common, written once.

What comes from outside is written by the encoder each time.
"""

from collections.abc import Iterable
from typing import Final

from proxy.ledger.entry import Status
from proxy.ledger.line_text import DAY, LinePieces, LineText
from proxy.ledger.opened import MovedAccount, OpenedText
from proxy.ledger.sums import SumKey, row_of
from proxy.ledger.texts import encode, items, members, plain_or_none, text
from rates.money import Nanos

_BEGINNING: Final = members(line="entry", kind="inference", requests=1)


class OpenedForm:
    """What like requests have in common when they are about to be sent, written once."""

    __slots__ = ("_accounts", "_owner")

    def __init__(
        self,
        *,
        owner: str,
        identity: str,
        endpoint: str,
        asked_model: str | None,
        model: str | None,
        tier: str,
        card: str | None,
        provenance: str | None,
        accounts: tuple[MovedAccount, ...],
    ) -> None:
        self._owner = items(
            *map(plain_or_none, (owner, identity, endpoint, asked_model, model, tier, card, provenance))
        )
        self._accounts = items(accounts)

    def opened(
        self,
        entry_id: str,
        at: str,
        usage: dict[str, int],
        nanos: Nanos | None,
        *,
        assumed: bool,
        long_context: bool,
        client_request_id: str | None,
    ) -> OpenedText:
        """A request that is about to be sent. The usage has no zeros."""
        client_request_id = plain_or_none(client_request_id)
        written = encode(
            (entry_id, at, self._owner, assumed, long_context, usage, nanos, self._accounts, client_request_id)
        )
        return OpenedText(entry_id, nanos, written.decode())


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
        line = LinePieces(
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
        return LineText(entry_id, at[:DAY], row, quantities, nanos, True, written)
