"""Finished requests, as the journal keeps them and as apply.lua applies them: in their turn, once (rules 2 to 4)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from proxy.budgets import Account
from proxy.ledger.entry import LedgerEntry
from proxy.ledger.line_text import LineText, line_text
from proxy.ledger.opened import MovedAccount, Opened
from proxy.ledger.parked import Parked
from proxy.ledger.texts import text
from proxy.store import keys
from proxy.store.packing import MAX_AMOUNT, charge_of, pack, raw

PARKED_SECONDS = 24 * 3600  # for so long somebody may ask for a background response before its cost is presumed
_SETTLE, _SKIP, _PARK = 4, 5, 6
_CHARGED_ELSEWHERE: Final = 2
_entry = msgspec.json.Decoder(LedgerEntry).decode
_body = msgspec.msgpack.Decoder(tuple[int, msgspec.Raw]).decode


@dataclass(frozen=True, slots=True)
class SetAside:
    """A record that the store rejects for ever. `line` is its entry as JSON, or what was parked."""

    id: str
    line: str
    why: str


class Numbered:
    """A finished request, to be applied in its turn. The journal gives it its number, and keeps `body`.

    `is_skipped`: the store rejects it for ever, so that only its number counts now and its hold is dropped.
    """

    __slots__ = ("_content", "_kind", "entry_id", "number", "on_charged")

    def __init__(self, kind: int, entry_id: str, content: msgspec.Raw, number: int | None = None) -> None:
        self.entry_id = entry_id
        self.number = number
        self.on_charged: Callable[[], object] | None = None
        """Called when it was applied, unless somebody else had charged the same."""
        self._kind = kind
        self._content = content

    @classmethod
    def of_body(cls, number: int, entry_id: str, body: bytes) -> "Numbered":
        """As it was journalled. Raises msgspec.DecodeError."""
        kind, content = _body(body)
        return cls(kind, entry_id, content, number)

    @classmethod
    def unreadable(cls, number: int) -> "Numbered":
        """A record of which only the number is known."""
        return cls(_SKIP, "", raw(("", "", "")), number)

    @property
    def body(self) -> bytes:
        return pack((self._kind, self._content))

    @property
    def payload(self) -> tuple[int, str, str, msgspec.Raw]:
        assert self.number is not None
        return self._kind, str(self.number - 1), str(self.number), self._content

    @property
    def entry(self) -> LedgerEntry | None:
        """The ledger entry, of one that has it."""
        if self._kind != _SETTLE:
            return None
        return _entry(msgspec.msgpack.decode(self._content)[6])

    @property
    def is_skipped(self) -> bool:
        return self._kind == _SKIP

    def skip(self, why: str) -> SetAside:
        """From now on it only counts. Returns what it was."""
        content = msgspec.msgpack.decode(self._content)
        aside = SetAside(self.entry_id, content[6 if self._kind == _SETTLE else 2], why)
        self._kind, self._content = _SKIP, raw((aside.id, aside.line, aside.why))
        return aside

    def read(self, answer: int) -> None:
        told, self.on_charged = self.on_charged, None  # once: it may be applied again after a rollback
        if told is not None and answer != _CHARGED_ELSEWHERE:
            told()


class Charge(Numbered):
    """A ledger entry: its hold is dropped, and it is added to accounts, sums and ledger."""

    __slots__ = ()

    def __init__(
        self, entry: LedgerEntry | LineText, accounts: Sequence[Account | MovedAccount], *, parked: str = ""
    ) -> None:
        """`parked`: the upstream id under which the request was parked; it is charged only if it still is."""
        line = entry if isinstance(entry, LineText) else line_text(entry)
        self.entry_id = line.id
        self.number = None
        self.on_charged = None
        self._kind = _SETTLE
        self._content = raw(charge_of(line, accounts, keys.background(parked) if parked else ""))
        if not -MAX_AMOUNT <= line.nanos <= MAX_AMOUNT:
            raise TooDear(self)


class TooDear(ValueError):  # noqa: N818 - a finding
    """More nanos than any request can cost, and than a script can add."""

    def __init__(self, charge: Charge) -> None:
        super().__init__(f"{charge.entry_id} costs more than any request can")
        self.charge = charge


class Park(Numbered):
    """A request that the upstream works on in the background: whoever hears of its end charges it.

    `opened` is kept where nothing is held for it. Its end is waited for PARKED_SECONDS.
    """

    __slots__ = ()

    def __init__(self, parked: Parked, upstream_id: str, opened: Opened) -> None:
        key = keys.background(upstream_id)
        due_at = int(datetime.fromisoformat(parked.at).timestamp()) + PARKED_SECONDS
        content = (parked.entry_id, key, text(parked), text(opened), str(due_at))
        super().__init__(_PARK, parked.entry_id, raw(content))
