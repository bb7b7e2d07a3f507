"""What travels on the ordered connection. `apply.lua` knows the same shapes.

Each operation may be sent more than once: a hold is known by its entry id, a finished request by its number.

The rules of the protocol, and where each is held:

1. No upstream byte before OPEN is journalled (`Store.begin`).
2. Each OPEN gets exactly one DONE in the same journal (`Store.settle`, `Store.park`; `proxy.store.adoption`).
3. DONEs apply in the order of their numbers, each in one script (apply.lua).
4. Applying finds a hold, a presumed entry, or neither, and never drops (apply.lua).
5. What was presumed is remembered, and a hold never revives it (apply.lua).
6. A superseded token changes nothing; holds are idempotent by entry id (apply.lua).
7. Every new connection reconciles; DONEs are kept until they are durable (pending, reconcile, durable).
8. committed = spent + held (apply.lua).
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from proxy.budgets import Account
from proxy.errors import StoreAway
from proxy.ledger.entry import LedgerEntry
from proxy.ledger.opened import MovedAccount, Opened
from proxy.ledger.parked import Parked
from proxy.ledger.sums import SumKey, sum_key
from proxy.store import keys
from rates.money import Nanos

MAX_AMOUNT: Nanos = 10**16
"""Ten million dollars for one request. apply.lua keeps room for it below the end of an int64."""

log = logging.getLogger(__name__)
_SETTLE, _SKIP, _PARK = 4, 5, 6
_CHARGED_ELSEWHERE = 2
_packed = msgspec.msgpack.Encoder().encode
_body = msgspec.msgpack.Decoder(tuple[int, msgspec.Raw]).decode
_json = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Refusal:
    """The account that stands in the way, as it was at that moment.

    `budget_exceeded`: what is spent leaves no room, and waiting does not help. `budget_held`: only holds of requests
    under way are in the way.
    """

    account: Account
    reason: Literal["budget_exceeded", "budget_held"]
    spent: Nanos
    held: Nanos


class Asked:
    """An operation that somebody may wait for. `given_up`: nobody waits any more, so it need not be sent (again)."""

    __slots__ = ("answer", "given_up", "sent")

    def __init__(self) -> None:
        self.answer: asyncio.Future[Refusal | None] | None = None
        self.sent = False
        self.given_up = False

    def tell(self, refusal: Refusal | None) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(refusal)

    def fail(self, why: str) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(StoreAway(why))


class Hold(Asked):
    """Set the request's money aside on all accounts, or on none; and keep with it what is known of the request.

    `record` is that: the Opened as JSON. `is_open`: it was journalled. `is_kept`: the store has it.
    """

    __slots__ = ("accounts", "amount", "entry_id", "is_kept", "is_open", "payload", "record")

    def __init__(self, opened: Opened, accounts: Sequence[Account]) -> None:
        super().__init__()
        self.entry_id = opened.id
        self.accounts = accounts
        # A hold is a guess: it is bounded, and no reason to fail a request.
        self.amount = max(0, min(opened.nanos or 0, MAX_AMOUNT))
        self.record = _text(opened)
        self.is_open = self.is_kept = False
        self.payload = self._payload(limited=True)

    def again(self) -> "Hold":
        """The same for a request that was let through: no limit refuses it any more."""
        made = Hold.__new__(Hold)
        Asked.__init__(made)
        made.entry_id, made.accounts, made.amount, made.record = self.entry_id, self.accounts, self.amount, self.record
        made.is_open, made.is_kept = self.is_open, False
        made.payload = self._payload(limited=False)
        return made

    def _payload(self, *, limited: bool) -> msgspec.Raw:
        amount = self.amount
        accounts = [
            (
                account.key,
                str(amount),
                str(account.budget.limit - amount) if limited and account.budget.refuses else "",
                *_lifetime(account),
            )
            for account in self.accounts
        ]
        return _raw((1, self.entry_id, accounts, self.record))

    def read(self, answer: Any) -> None:
        """Tell who waits: None when the money is set aside."""
        if isinstance(answer, list):
            self.tell(self._refusal([int(number) for number in answer]))
        elif answer == 0:
            self.is_kept = True
            self.tell(None)
        else:
            log.error("the store cannot hold money for %s: %s", self.entry_id, text_of(answer))
            self.fail(f"the store cannot hold money: {text_of(answer)}")

    def _refusal(self, answer: list[int]) -> Refusal:
        """Of several that refuse, one that waiting does not help."""
        refusals = []
        for position, committed, held in zip(*[iter(answer)] * 3, strict=True):
            account = self.accounts[position]
            spent = committed - held
            is_exceeded = spent + self.amount > account.budget.limit
            refusals.append(Refusal(account, "budget_exceeded" if is_exceeded else "budget_held", spent, held))
        return next((refusal for refusal in refusals if refusal.reason == "budget_exceeded"), refusals[0])


class Check(Asked):
    """Is one of these accounts used up? Holds do not count: what is free costs nothing."""

    __slots__ = ("accounts", "payload")

    def __init__(self, accounts: Sequence[Account]) -> None:
        super().__init__()
        self.accounts = tuple(accounts)
        self.payload = _raw((3, [(account.key,) for account in self.accounts]))

    def read(self, answer: Any) -> None:
        if not isinstance(answer, list):
            self.fail(f"the store cannot read budgets: {text_of(answer)}")
            return
        numbers = [int(number) for number in answer]
        for account, committed, held in zip(self.accounts, numbers[::2], numbers[1::2], strict=True):
            if account.budget.refuses and committed - held >= account.budget.limit:
                self.tell(Refusal(account, "budget_exceeded", committed - held, held))
                return
        self.tell(None)


class Release:
    """Give a hold back: its request was never sent. Nothing happens where no such hold is."""

    __slots__ = ("entry_id", "payload")

    def __init__(self, entry_id: str) -> None:
        self.entry_id = entry_id
        self.payload = _raw((2, entry_id))

    def read(self, answer: Any) -> None:
        if answer != 0:
            log.error("the store cannot release the hold of %s: %s", self.entry_id, text_of(answer))


class Reverse:
    """Take back what was presumed of a request that was never sent. Nothing happens where nothing was."""

    __slots__ = ("entry_id", "payload")

    def __init__(self, entry_id: str) -> None:
        self.entry_id = entry_id
        self.payload = _raw((8, entry_id))

    def read(self, answer: Any) -> None:
        if answer != 0:
            log.error("the store cannot take back what was presumed of %s: %s", self.entry_id, text_of(answer))


class Beat:
    """The writer lives."""

    __slots__ = ()
    payload = (7,)

    def read(self, answer: Any) -> None:
        if answer != 0:
            log.error("the store does not count heartbeats: %s", text_of(answer))


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

    @property
    def body(self) -> bytes:
        return _packed((self._kind, self._content))

    @property
    def payload(self) -> tuple[int, str, str, msgspec.Raw]:
        assert self.number is not None
        return self._kind, str(self.number - 1), str(self.number), self._content

    @property
    def is_skipped(self) -> bool:
        return self._kind == _SKIP

    def skip(self, why: str) -> SetAside:
        """From now on it only counts. Returns what it was."""
        content = msgspec.msgpack.decode(self._content)
        aside = SetAside(self.entry_id, content[6 if self._kind == _SETTLE else 2], why)
        self._kind, self._content = _SKIP, _raw((aside.id, aside.line, aside.why))
        return aside

    def read(self, answer: int) -> None:
        told, self.on_charged = self.on_charged, None  # once: it may be applied again after a rollback
        if told is not None and answer != _CHARGED_ELSEWHERE:
            told()


class Charge(Numbered):
    """A ledger entry: its hold is dropped, and it is added to accounts, sums and ledger."""

    __slots__ = ()

    def __init__(self, entry: LedgerEntry, accounts: Sequence[Account | MovedAccount], *, parked: str = "") -> None:
        """`parked`: the upstream id under which the request was parked; it is charged only if it still is."""
        key = keys.background(parked) if parked else ""
        super().__init__(_SETTLE, entry.id, _raw((*charge_of(entry, accounts), key)))
        if abs(entry.cost_nanos or 0) > MAX_AMOUNT:
            raise TooDear(self)


class TooDear(ValueError):  # noqa: N818 - a finding
    """More nanos than any request can cost, and than a script can add."""

    def __init__(self, charge: Charge) -> None:
        super().__init__(f"{charge.entry_id} costs more than any request can")
        self.charge = charge


class Park(Numbered):
    """A request that the upstream works on in the background: whoever hears of its end charges it.

    `opened` is kept where nothing is held for it; `due_at` (Unix seconds) is when its end is not waited for any more.
    """

    __slots__ = ()

    def __init__(self, parked: Parked, upstream_id: str, opened: Opened, due_at: int) -> None:
        key = keys.background(upstream_id)
        content = (parked.entry_id, key, _text(parked), _text(opened), str(due_at))
        super().__init__(_PARK, parked.entry_id, _raw(content))


Operation = Hold | Release | Check | Reverse | Beat | Numbered


def charge_of(entry: LedgerEntry, accounts: Sequence[Account | MovedAccount]) -> tuple[object, ...]:
    """A charge as the script reads it."""
    nanos = entry.cost_nanos or 0
    quantities = ["requests", str(entry.requests)]
    for kind, quantity in entry.usage.items():
        quantities += (kind, str(quantity))
    if nanos:
        quantities += ("nanos", str(nanos))
    moves = nanos or entry.status == "unpriced"  # what has no price yet may get one: its accounts must be there
    return (
        _plain(entry.id),
        [(_plain(account.key), *_lifetime(account)) for account in accounts] if moves else (),
        str(nanos),
        entry.at[:10],
        row_of(sum_key(entry)),
        quantities,
        _text(entry),
    )


def packed(operations: Sequence[Operation]) -> bytes:
    """A batch as the script reads it."""
    return _packed([operation.payload for operation in operations])


def _text(record: msgspec.Struct) -> str:
    """As JSON, in a text: the server's MessagePack knows no bytes."""
    try:
        return _json(record).decode()
    except UnicodeEncodeError:  # half a surrogate pair, say in a header: no text, but no reason to lose a charge
        texts = {name: value for name in record.__struct_fields__ if isinstance(value := getattr(record, name), str)}
        return _json(msgspec.structs.replace(record, **{name: _plain(value) for name, value in texts.items()})).decode()


def _plain(text: str) -> str:
    return text if text.isascii() else text.encode(errors="replace").decode()


def text_of(answer: Any) -> str:
    return answer.decode(errors="replace") if isinstance(answer, bytes) else repr(answer)


def row_of(key: SumKey) -> str:
    """The beginning of the fields of a row of day sums; the quantity's name follows. JSON ends where its `]` is."""
    texts = (key.owner, key.model, key.card, key.tier, key.long_context, key.endpoint, key.status)
    return _json([_plain(text) for text in texts]).decode()


def _raw(payload: object) -> msgspec.Raw:
    # Packed when it comes in: what cannot be packed fails at its caller, and sending again costs nothing.
    return msgspec.Raw(_packed(payload))


def moved_account(account: Account) -> MovedAccount:
    """What the store needs of an account to move money."""
    return MovedAccount(account.budget.name, account.key, *_lifetime(account))


def _lifetime(account: Account | MovedAccount) -> tuple[str, str, str]:
    """When its keys expire (Unix seconds; empty: never), its series, and the owner that the series lists."""
    if isinstance(account, MovedAccount):
        return account.expires_at, account.series, account.owner
    ends_at = account.ends_at
    expires_at = "" if ends_at is None else str(ends_at + keys.KEPT_AFTER_PERIOD_SECONDS)
    return expires_at, account.series, account.owner_identity or ""
