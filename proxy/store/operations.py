"""What travels on the ordered connection. `apply.lua` knows the same shapes.

Each operation may be sent more than once: a hold is known by its entry id, a charge by its number.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgspec

from proxy.budgets import Account
from proxy.errors import StoreAway
from proxy.ledger.entry import LedgerEntry
from proxy.ledger.parked import Parked
from proxy.ledger.sums import SumKey, sum_key
from proxy.store import keys
from rates.money import Nanos

MAX_AMOUNT: Nanos = 10**16
"""Ten million dollars for one request. apply.lua keeps room for it below the end of an int64."""

log = logging.getLogger(__name__)
Cleaned = TypeVar("Cleaned", LedgerEntry, Parked)
_packed = msgspec.msgpack.Encoder().encode
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
    """Set money aside on all accounts, or on none."""

    __slots__ = ("amounts", "entry_id", "payload")

    def __init__(self, entry_id: str, amounts: Sequence[tuple[Account, Nanos]]) -> None:
        super().__init__()
        self.entry_id = entry_id
        self.amounts = amounts
        self.payload = _raw((1, entry_id, [_hold_of(account, amount) for account, amount in amounts]))

    def read(self, answer: Any) -> None:
        """Tell who waits: None when the money is set aside."""
        if isinstance(answer, list):
            self.tell(self._refusal([int(number) for number in answer]))
        elif answer == 0:
            self.tell(None)
        else:
            log.error("the store cannot hold money for %s: %s", self.entry_id, text_of(answer))
            self.fail(f"the store cannot hold money: {text_of(answer)}")

    def _refusal(self, answer: list[int]) -> Refusal:
        """Of several that refuse, one that waiting does not help."""
        refusals = []
        for position, committed, held in zip(*[iter(answer)] * 3, strict=True):
            account, amount = self.amounts[position]
            spent = committed - held
            is_exceeded = spent + amount > account.budget.limit
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


class Charge:
    """A ledger entry to be applied, in its turn. The number is given when it is sent for the first time.

    `is_skipped`: the store rejects it for ever, so that only its number counts now and its hold is dropped.
    """

    __slots__ = ("_content", "_parked", "entry", "is_skipped", "number")

    def __init__(self, entry: LedgerEntry, accounts: Sequence[Account], *, parked: str = "") -> None:
        """`parked`: the upstream id under which the request was parked; it is charged only if it still is."""
        self._parked = keys.background(parked) if parked else ""
        nanos = entry.cost_nanos or 0
        if abs(nanos) > MAX_AMOUNT:
            raise ValueError(f"{entry.id} costs {nanos} nanos: more than any request can")
        try:
            self._fill(entry, accounts, nanos)
        except UnicodeEncodeError:  # half a surrogate pair, say in a header: no text, but no reason to lose a charge
            self._fill(_clean(entry), accounts, nanos)
        self.number: int | None = None
        self.is_skipped = False

    def _fill(self, entry: LedgerEntry, accounts: Sequence[Account], nanos: Nanos) -> None:
        self.entry = entry
        quantities = ["requests", "1" if entry.line == "entry" else "0"]
        for kind, quantity in entry.usage.items():
            quantities += (kind, str(quantity))
        if nanos:
            quantities += ("nanos", str(nanos))
        self._content = _raw(
            (
                entry.id,
                [(account.key, *_lifetime(account)) for account in accounts] if nanos else (),
                str(nanos),
                entry.at[:10],
                row_of(sum_key(entry)),
                quantities,
                _json(entry).decode(),  # as text: the server's MessagePack knows no bytes
                self._parked,
            )
        )

    @property
    def payload(self) -> tuple[int, str, str, msgspec.Raw]:
        assert self.number is not None
        return 5 if self.is_skipped else 4, str(self.number - 1), str(self.number), self._content


class Park:
    """A request that the upstream works on in the background: whoever hears of its end charges it.

    Numbered like a Charge. `entry` is what is known of it now.
    """

    __slots__ = ("_content", "entry", "is_skipped", "number")

    def __init__(self, entry: LedgerEntry, upstream_id: str, parked: Parked) -> None:
        self.entry = entry
        try:
            record = _json(parked).decode()
        except UnicodeEncodeError:
            record = _json(_clean(parked)).decode()
        self._content = _raw((parked.entry_id, keys.background(upstream_id), record))
        self.number: int | None = None
        self.is_skipped = False

    @property
    def payload(self) -> tuple[int, str, str, msgspec.Raw]:
        assert self.number is not None
        return 5 if self.is_skipped else 6, str(self.number - 1), str(self.number), self._content


Numbered = Charge | Park
Operation = Hold | Release | Check | Numbered


def packed(operations: Sequence[Operation]) -> bytes:
    """A batch as the script reads it."""
    return _packed([operation.payload for operation in operations])


def _clean(entry: Cleaned) -> Cleaned:
    changes = {name: value for name in entry.__struct_fields__ if isinstance(value := getattr(entry, name), str)}
    return msgspec.structs.replace(
        entry, **{name: value.encode(errors="replace").decode() for name, value in changes.items()}
    )


def text_of(answer: Any) -> str:
    return answer.decode(errors="replace") if isinstance(answer, bytes) else repr(answer)


def row_of(key: SumKey) -> str:
    """The beginning of the fields of a row of day sums; the quantity's name follows. JSON ends where its `]` is."""
    return _json((key.owner, key.model, key.card, key.tier, key.long_context, key.endpoint, key.status)).decode()


def _raw(payload: object) -> msgspec.Raw:
    # Packed when it comes in: what cannot be packed fails at its caller, and sending again costs nothing.
    return msgspec.Raw(_packed(payload))


def _hold_of(account: Account, amount: Nanos) -> tuple[str, ...]:
    if not 0 <= amount <= MAX_AMOUNT:
        amount = max(0, min(amount, MAX_AMOUNT))  # a hold is a guess: it is bounded, and no reason to fail a request
    budget = account.budget
    most = str(budget.limit - amount) if budget.refuses else ""
    return account.key, str(amount), most, *_lifetime(account)


def _lifetime(account: Account) -> tuple[str, str, str]:
    """When its keys expire (Unix seconds; empty: never), its series, and the owner that the series lists."""
    ends_at = account.ends_at
    expires_at = "" if ends_at is None else str(ends_at + keys.KEPT_AFTER_PERIOD_SECONDS)
    return expires_at, account.series, account.owner_identity or ""
