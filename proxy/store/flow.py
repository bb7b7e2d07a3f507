"""What flows over one connection once it is mended: batches of operations, one call at a time, until it is lost.

All that one turn of the event loop has asked and told travels in one call; what comes while it is under way, in the
next. What nobody waits for lingers a moment: a request that goes upstream in the same turn is not to wait for the call,
and what ends meanwhile travels along. One alarm watches over all calls.
"""

import asyncio
import logging
from typing import Protocol

from proxy.errors import StoreAway, StoreError
from proxy.store.channel import Channel
from proxy.store.operations import packed
from proxy.store.pending import GapFoundError, Pending
from proxy.store.script import Script, is_fault
from proxy.store.wire import CommandFailed, Wire

LOOK_SECONDS = 0.5  # so often: is a beat due, or a ping?
PING_EVERY = 10  # looks: without work, see whether the store still answers
BEAT_SECONDS = 10.0  # a sweeper takes a writer for dead whose beat has stood still for 45 s
LINGER = 0.002  # seconds that what nobody waits for may take to be sent
REJECTED_PAUSE = 0.05  # seconds before what was rejected, and nothing else, is sent again
_PING = b"*1\r\n$4\r\nPING\r\n"

log = logging.getLogger(__name__)


class Home(Protocol):
    """Is told how it goes."""

    def is_sending(self) -> None:
        """The next batch is about to be taken."""

    def has_applied(self) -> None:
        """A batch was answered."""

    def is_at_rest(self) -> None:
        """Nothing is pending."""


class Flow:
    """Begins at once. `ended` says why it has ended: None when that was asked (`leave`)."""

    def __init__(self, wire: Wire, script: Script, pending: Pending, home: Home, timeout: float) -> None:
        """`timeout`: seconds for each answer. Raises StoreAway when the wire is lost already."""
        self._wire = wire
        self._script = script
        self._pending = pending
        self._home = home
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[StoreError | None] = self._loop.create_future()
        self._is_due = True  # a call is under way, or will be made in this turn or after a pause
        self._is_asked = False
        self._lingers = False
        self._is_ping = False
        self._is_leaving = False
        self._asked_at = 0.0
        self._alarm: asyncio.TimerHandle | None = None
        self._later: asyncio.TimerHandle | None = None
        self._looks = 0
        self._beat_at = self._loop.time() + BEAT_SECONDS
        self._channel = Channel(wire, self._answered, self._end)
        self._looking = self._loop.call_later(LOOK_SECONDS, self._look)
        self._loop.call_soon(self._send)

    def kick(self) -> None:
        """Something is pending that is to be sent at once."""
        if self._lingers:
            self._lingers = False
            assert self._later is not None
            self._later.cancel()
        elif self._is_due:
            return
        self._is_due = True
        self._loop.call_soon(self._send)

    def kick_later(self) -> None:
        """Something is pending that nobody waits for."""
        if not self._is_due:
            self._is_due = self._lingers = True
            self._later = self._loop.call_later(LINGER, self._send)

    def leave(self) -> None:
        """End as soon as nothing is pending."""
        self._is_leaving = True
        self.kick()

    def stop(self) -> None:
        """Give the wire back."""
        self._end(None)

    def _send(self) -> None:
        if self.ended.done():
            return
        self._later = None
        self._lingers = False
        try:
            self._home.is_sending()
            batch = self._pending.take()
            if batch:
                self._ask(self._script.call(packed(batch)))
                return
            self._is_due = False
            self._home.is_at_rest()
            if self._is_leaving:
                self._end(None)
        except Exception as error:  # noqa: BLE001 - it is said
            self._fault(error)

    def _ask(self, command: bytes) -> None:
        self._is_asked = True
        self._asked_at = self._loop.time()
        if self._alarm is None:
            self._alarm = self._loop.call_at(self._asked_at + self._timeout, self._ring)
        self._channel.send(command)

    def _answered(self, answer: object) -> None:
        self._is_asked = False
        try:
            if isinstance(answer, StoreError):
                self._failed(answer)
            elif self._is_ping:
                self._is_ping = False
                self._send()
            else:
                assert isinstance(answer, list)
                has_ended = self._pending.answered(answer)
                self._home.has_applied()
                if has_ended:  # and what the rest of this turn brings travels along
                    self._loop.call_soon(self._send)
                else:
                    self._later = self._loop.call_later(REJECTED_PAUSE, self._send)
        except GapFoundError:
            self._end(StoreAway(f"{self._wire.shown}: it was rolled back"))
        except Exception as error:  # noqa: BLE001 - it is said
            self._fault(error)

    def _failed(self, error: StoreError) -> None:
        if isinstance(error, CommandFailed) and not self._is_ping:
            if error.code == "NOSCRIPT":
                self._ask(self._script.call_in_full(packed(self._pending.under_way)))
                return
            if is_fault(error):
                if self._pending.failed(str(error)):
                    self._loop.call_soon(self._send)
                else:
                    self._end(StoreAway(str(error)))
                return
        self._end(error)

    def _ring(self) -> None:
        """One alarm for all calls: it goes off at the deadline of the one under way, or is set to that."""
        self._alarm = None
        if not self._is_asked or self.ended.done():
            return
        deadline = self._asked_at + self._timeout
        if deadline > self._loop.time():
            self._alarm = self._loop.call_at(deadline, self._ring)
        else:  # nobody knows whether the call will still be carried out
            self._end(StoreAway(f"{self._wire.shown}: no answer within {self._timeout:g} s"))

    def _look(self) -> None:
        now = self._loop.time()
        self._looking = self._loop.call_at(now + LOOK_SECONDS, self._look)
        self._looks += 1
        if self._beat_at <= now:
            self._beat_at = now + BEAT_SECONDS
            self._pending.beat()
            self.kick()
        elif self._looks % PING_EVERY == 0 and not self._is_due:
            self._is_due = self._is_ping = True
            self._ask(_PING)

    def _fault(self, error: Exception) -> None:
        log.error("internal fault on the connection to the store", exc_info=error)
        self._end(StoreAway(f"internal fault: {error}"))

    def _end(self, why: StoreError | None) -> None:
        if self.ended.done():
            return
        self.ended.set_result(why)
        self._channel.detach()
        self._looking.cancel()
        for timer in (self._alarm, self._later):
            if timer is not None:
                timer.cancel()
