"""What travels on the ordered connection. `apply.lua` knows the same shapes.

Each operation may be sent more than once: a hold is known by its entry id, a finished request by its number.

The rules of the protocol, and where each is held:

1. No upstream byte before OPEN is journalled (`Store.begin`, `Store.ask_hold`).
2. Each OPEN gets exactly one DONE in the same journal (`Store.settle`, `Store.park`; `proxy.store.adoption`).
3. DONEs apply in the order of their numbers, each in one script (apply.lua).
4. Applying finds a hold, a presumed entry, or neither, and never drops (apply.lua).
5. What was presumed is remembered, and a hold never revives it (apply.lua).
6. A superseded token changes nothing; holds are idempotent by entry id (apply.lua).
7. Every new connection reconciles; DONEs are kept until they are durable (pending, reconcile, durable).
8. committed = spent + held (apply.lua).
"""

import logging
from collections.abc import Sequence
from typing import Any

import msgspec

from proxy.budgets import Account
from proxy.ledger.opened import Opened, OpenedText, presumed
from proxy.ledger.texts import text
from proxy.store import keys
from proxy.store.asking import Asked, Refusal
from proxy.store.finished import Numbered
from proxy.store.packing import MAX_AMOUNT, charge_of, pack, raw, reversal_of
from rates.money import Nanos

log = logging.getLogger(__name__)


class Hold(Asked):
    """Set the request's money aside on all accounts, or on none; and keep with it what is known of the request.

    `record` is that: the Opened as JSON. `is_open`: it was journalled. `is_kept`: the store has it.
    """

    __slots__ = ("accounts", "amount", "entry_id", "is_kept", "is_open", "payload", "record")

    def __init__(
        self, opened: Opened | OpenedText, accounts: Sequence[Account], *, times: int = 1, advance: str = ""
    ) -> None:
        """`times`: refused, unless it fits so many times into what is left; 0: no limit refuses it.

        `advance`: the id of the Advance on the same accounts that it is taken out of, if the store still has that.
        """
        super().__init__()
        self.is_open = self.is_kept = False
        self.entry_id = opened.id
        self.accounts = accounts
        # A hold is a guess: it is bounded, and no reason to fail a request.
        nanos = opened.nanos or 0
        self.amount = nanos if 0 <= nanos <= MAX_AMOUNT else max(0, min(nanos, MAX_AMOUNT))
        self.record = opened.text if isinstance(opened, OpenedText) else text(opened)
        self.payload = self._payload(times, advance)

    def again(self) -> "Hold":
        """The same for a request that was let through: no limit refuses it any more."""
        made = Hold(OpenedText(self.entry_id, self.amount, self.record), self.accounts, times=0)
        made.is_open = self.is_open
        return made

    def _payload(self, times: int, advance: str) -> msgspec.Raw:
        amount = self.amount
        written = str(amount)
        accounts = [
            (
                account.key,
                written,
                str(account.budget.limit - times * amount) if times and account.budget.refuses else "",
                account.expires_at,
                account.series,
                account.owner,
            )
            for account in self.accounts
        ]
        return raw((1, self.entry_id, accounts, self.record, advance))

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
            refusals.append(Refusal.of(self.accounts[position], self.amount, committed - held, held))
        return next((refusal for refusal in refusals if refusal.reason == "budget_exceeded"), refusals[0])


class Advance(Hold):
    """Money that is set aside ahead, for holds to come. It is no request's, so that nothing is known of it.

    `left`: nanos that no hold was taken out of yet; 0 before it is granted, and after it was lost.
    """

    __slots__ = ("left",)

    def __init__(self, advance_id: str, nanos: Nanos, accounts: Sequence[Account], *, times: int) -> None:
        super().__init__(OpenedText(advance_id, nanos, ""), accounts, times=times)
        self.left: Nanos = 0


class Check(Asked):
    """Is one of these accounts used up? Holds do not count: what is free costs nothing."""

    __slots__ = ("accounts", "payload")

    def __init__(self, accounts: Sequence[Account]) -> None:
        super().__init__()
        self.accounts = tuple(accounts)
        self.payload = raw((3, [(account.key,) for account in self.accounts]))

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
    entry = None

    def __init__(self, entry_id: str) -> None:
        self.entry_id = entry_id
        self.payload = raw((2, entry_id))

    def read(self, answer: Any) -> None:
        if answer != 0:
            log.error("the store cannot release the hold of %s: %s", self.entry_id, text_of(answer))


class Reverse:
    """Take back what was presumed of a request that was never sent. Nothing happens where nothing was."""

    __slots__ = ("entry_id", "payload")

    def __init__(self, entry_id: str) -> None:
        self.entry_id = entry_id
        self.payload = raw((8, entry_id))

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


class Presume:
    """A hold becomes a presumed entry: by a sweeper that has taken the writer's place."""

    __slots__ = ("entry", "payload")

    def __init__(self, opened: Opened, reason: str, writer: str) -> None:
        entry = self.entry = presumed(opened, reason, writer=writer)
        self.payload = raw((9, charge_of(entry, opened.accounts), reversal_of(entry)))


class PresumeParked:
    """A parked request becomes a presumed entry, which is remembered until `forget_at` (Unix seconds)."""

    __slots__ = ("entry", "payload")

    def __init__(self, opened: Opened, reason: str, key: str, forget_at: int) -> None:
        # With the upstream's id: that leads to the key, where the charge stands that takes the entry back.
        entry = msgspec.structs.replace(presumed(opened, reason), upstream_id=key.removeprefix(keys.BACKGROUND))
        self.entry = entry
        self.payload = raw((10, key, str(forget_at), charge_of(entry, opened.accounts), reversal_of(entry)))


class ForgetParked:
    """What was presumed of a parked request will not be corrected any more."""

    __slots__ = ("payload",)
    entry = None

    def __init__(self, entry_id: str, key: str) -> None:
        self.payload = raw((11, entry_id, key))


class Retire:
    """A writer that was swept is not looked at any more, until it comes again."""

    __slots__ = ("payload",)
    entry = None

    def __init__(self, writer: str) -> None:
        self.payload = raw((12, writer))


Operation = Hold | Release | Check | Reverse | Beat | Numbered
Swept = Presume | PresumeParked | ForgetParked | Release | Retire


def packed(operations: Sequence[Operation | Swept]) -> bytes:
    """A batch as the script reads it."""
    return pack([operation.payload for operation in operations])


def text_of(answer: Any) -> str:
    return answer.decode(errors="replace") if isinstance(answer, bytes) else repr(answer)
