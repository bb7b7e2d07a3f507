"""Advances: what streams will hold is set aside ahead, so that they need not wait for the store.

Where one stream follows the other, and the limits are far, a writer asks for what many of them will hold. It takes
their holds out of that by itself; the operation that tells the store moves money from the advance to the hold, so that
what is committed never grows without the store's word. Near a limit no advance is granted, and each request asks again.

An advance is held like any request, by a writer: it goes with him. It goes back when the streams pause, and before the
store is asked for the last time whether a request fits.
"""

import asyncio
import secrets
from collections.abc import Sequence
from itertools import count
from typing import Protocol

from proxy.budgets import Account
from proxy.errors import JournalFailed, StoreAway
from proxy.ledger.opened import Opened, OpenedText
from proxy.store.asking import Refusal
from proxy.store.operations import Advance, Check, Hold, Release
from proxy.store.pending import Pending
from rates.money import Nanos

AHEAD = 32  # holds in an advance
FAR = 8  # an advance fits so many times into what is left
MOST: Nanos = 10**14  # in an advance: apply.lua counts it with Lua's numbers
FOLLOW_SECONDS = 0.05  # streams on the same accounts follow one another
REST_SECONDS = 0.2  # without a stream, until its advance goes back
LOOK_SECONDS = 0.1
PAUSE_SECONDS = 1.0  # after a refusal, before the store is asked again
MOST_AT_ONCE = 1000  # sets of accounts: an owner has one


class Connection(Protocol):
    """See OrderedConnection."""

    @property
    def is_connected(self) -> bool: ...
    def ask(self, operation: Hold | Check) -> StoreAway | None: ...
    def tell(self, operation: Hold | Release) -> None: ...


class Advances:
    """Those of one writer."""

    def __init__(
        self,
        connection: Connection,
        pending: Pending,
        loop: asyncio.AbstractEventLoop,
        *,
        ahead: int = AHEAD,
        far: int = FAR,
    ) -> None:
        self._connection = connection
        self._pending = pending
        self._loop = loop
        self._size = ahead
        self._far = far
        self._of: dict[tuple[str, ...], _Ahead] = {}
        self._ids = count(1)
        self._prefix = f"ahead-{secrets.token_hex(4)}"
        self._looking: asyncio.TimerHandle | None = None
        self._is_closed = False

    def take(self, opened: Opened | OpenedText, accounts: Sequence[Account]) -> bool:
        """Hold a stream's money, if enough of it was set aside ahead. If not, the store has to be asked."""
        nanos = opened.nanos or 0
        if (
            not 0 < nanos <= MOST // self._size
            or not self._connection.is_connected
            or self._pending.wiped() is not None
        ):
            return False
        now = self._loop.time()
        key = tuple([account.key for account in accounts])
        ahead = self._of.get(key)
        if ahead is None:
            if len(self._of) < MOST_AT_ONCE and not self._is_closed:
                self._of[key] = _Ahead(self, now)
                self._look_later()
            return False
        follows = now - ahead.seen_at < FOLLOW_SECONDS
        ahead.seen_at = now
        granted = ahead.granted
        while granted and granted[0].left < nanos:
            self._give_back(granted.pop(0))
        if is_enough := bool(granted):
            granted[0].left -= nanos
            hold = Hold(opened, accounts, times=0, advance=granted[0].entry_id)
            self._pending.live[opened.id] = hold
            self._connection.tell(hold)
        if follows and sum(each.left for each in granted) < self._size * nanos // 2:
            self._ask(ahead, self._size * nanos, accounts, now)
        return is_enough

    def clear(self, accounts: Sequence[Account]) -> Nanos:
        """Give back what is set aside ahead on any of these; how much that was."""
        wanted = {account.key for account in accounts}
        return sum(self._end(key) for key in [key for key in self._of if not wanted.isdisjoint(key)])

    def close(self) -> None:
        """Give all back; from now on there are none."""
        self._is_closed = True
        for key in list(self._of):
            self._end(key)
        if self._looking is not None:
            self._looking.cancel()

    def granted_too_late(self, advance: Advance) -> None:
        """Nobody takes anything out of this one any more."""
        self._give_back(advance)

    def pause_until(self) -> float:
        """When the store may be asked again, after it said no."""
        return self._loop.time() + PAUSE_SECONDS

    def _ask(self, ahead: "_Ahead", nanos: Nanos, accounts: Sequence[Account], now: float) -> None:
        if ahead.asked is not None or now < ahead.not_before:
            return
        advance = Advance(f"{self._prefix}-{next(self._ids)}", nanos, accounts, times=self._far)
        advance.waiter = ahead
        if self._connection.ask(advance) is None:
            ahead.asked = advance

    def _look_later(self) -> None:
        if self._looking is None:
            self._looking = self._loop.call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._looking = None
        now = self._loop.time()
        for key in [key for key, ahead in self._of.items() if now - ahead.seen_at >= REST_SECONDS]:
            self._end(key)
        if self._of:
            self._look_later()

    def _end(self, key: tuple[str, ...]) -> Nanos:
        ahead = self._of.pop(key)
        ahead.is_over = True
        left = sum(advance.left for advance in ahead.granted)
        for advance in ahead.granted:
            self._give_back(advance)
        ahead.granted.clear()
        return left

    def _give_back(self, advance: Advance) -> None:
        advance.left = 0
        if self._pending.live.pop(advance.entry_id, None) is not None:
            self._connection.tell(Release(advance.entry_id))


class _Ahead:
    """What is set aside ahead on the same accounts; it waits for what the store says of more."""

    def __init__(self, advances: Advances, now: float) -> None:
        self._advances = advances
        self.granted: list[Advance] = []
        self.asked: Advance | None = None
        self.seen_at = now
        """When the last stream came, by the event loop's clock."""
        self.not_before = 0.0
        self.is_over = False

    def held(self) -> None:
        advance, self.asked = self.asked, None
        assert advance is not None
        advance.left = advance.amount
        if self.is_over:
            self._advances.granted_too_late(advance)
        else:
            self.granted.append(advance)

    def refused(self, _refusal: Refusal) -> None:
        self._not_granted()

    def store_failed(self, _error: StoreAway) -> None:
        self._not_granted()

    def journal_failed(self, error: JournalFailed) -> None:
        raise AssertionError from error  # nothing of it is journalled

    def _not_granted(self) -> None:
        self.asked = None
        self.not_before = self._advances.pause_until()
