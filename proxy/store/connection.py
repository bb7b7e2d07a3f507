"""The ordered connection: one a process. Batches of operations go to the store in order, one call at a time (see Flow).

A call whose answer was lost is sent again on the next connection, unchanged: operations know that they came before.
While the store is away nobody waits for it: holds fail at once, charges and releases queue up, and one task tries to
connect. Holds are asked for again only when what queued up has been applied, because only then do budgets tell the
truth (and nobody waits behind the queue).

Every new connection takes a new token, so that calls still under way on an older one change nothing (rule 6), reads
what the store has of this writer, and mends it (rule 7, see Pending).
"""

import asyncio
import logging
import random
import secrets
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from socket import gethostname

from proxy.errors import StoreAway, StoreError, StoreRefused
from proxy.store import keys
from proxy.store.address import Address
from proxy.store.birth import Birth
from proxy.store.finished import Numbered
from proxy.store.flow import Flow
from proxy.store.operations import Check, Hold, Release
from proxy.store.pending import BATCH, Pending, Stored
from proxy.store.script import Script
from proxy.store.wire import Wire

HANDSHAKE_SECONDS = 2.0  # at least: a server that was stopped answers late, and each new attempt costs it something
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0

log = logging.getLogger(__name__)


def _nothing(*_: object) -> None:
    """Nobody wants to know."""


class OrderedConnection:
    """Keeps what it was given until the store has it, in order."""

    def __init__(
        self, address: Address, writer: str, timeout: float, pending: Pending, birth: Birth | None = None
    ) -> None:
        self.pending = pending
        self.on_stored: Callable[[Stored], object] = _nothing
        """Called with what the store has of this writer, before it is mended."""
        self.on_progress: Callable[[], object] = _nothing
        """Called when operations have ended."""
        self.run_id: str | None = None
        """Which server, and which life of it, has applied what `pending` has counted. None: it does not say."""
        self.life = 0
        """Grows with each connection."""
        self._address = address
        self._writer = writer
        self._birth = birth
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._wire: Wire | None = None
        self._is_ready = False
        self._is_closing = False
        self._why_away = f"store {address.shown}: not connected yet"
        self._pause = FIRST_PAUSE
        self._flow: Flow | None = None
        self._at_rest = asyncio.Event()
        self._attempted: asyncio.Future[StoreError | None] = self._loop.create_future()
        self._deadlines: deque[Hold | Check] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._task = self._loop.create_task(self._run(), name="store connection")

    @property
    def is_connected(self) -> bool:
        return self._wire is not None

    @property
    def why_away(self) -> str:
        """Why the store is away, or was last."""
        return self._why_away

    async def attempted(self) -> StoreError | None:
        """How the first attempt to connect went."""
        return await asyncio.shield(self._attempted)

    def ask(self, operation: Hold | Check) -> StoreAway | None:
        """Its waiter hears of the answer, or after the timeout that there is none; a hold is then given back.

        Returns why nothing is asked, when the store is away: then nobody hears of it any more.
        """
        if not self._is_ready:
            return StoreAway(self._why_away)
        if isinstance(operation, Hold):
            self.pending.live[operation.entry_id] = operation
        operation.deadline = self._loop.time() + self._timeout
        self._deadlines.append(operation)
        if self._timer is None:
            self._timer = self._loop.call_at(operation.deadline, self._expire)
        self.pending.append(operation)
        self._kick()
        return None

    def give_up(self, operation: Hold | Check) -> None:
        """Who waits for it has left."""
        self.pending.give_up(operation)
        self._kick()

    def tell(self, operation: Hold | Release | Numbered) -> None:
        """Nobody waits. A hold that comes while the store is away is made when it is back, if it is still needed."""
        if self._wire is None and isinstance(operation, Hold):
            return
        self.pending.append(operation)
        if self._flow is not None:
            self._flow.kick_later()

    async def close(self, drain: float) -> None:
        """Send what is pending for at most so many seconds. Nobody asks any more."""
        self._is_ready = False
        self._is_closing = True
        self._why_away = "the store is being closed"
        with suppress(TimeoutError):
            async with asyncio.timeout(drain):
                while len(self.pending):
                    self._at_rest.clear()
                    await self._at_rest.wait()

    async def end(self, *, forget: bool) -> None:
        """After `close`. `forget`: nothing of this writer will ever come again, and nothing of it stays."""
        if forget and self._flow is not None and not len(self.pending):
            self._flow.leave()  # the task removes what this writer has left in the store, and ends
            with suppress(TimeoutError):
                async with asyncio.timeout(self._timeout):
                    await asyncio.shield(self._task)
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        if self._timer is not None:
            self._timer.cancel()
        self.pending.close(self._why_away)

    def _kick(self) -> None:
        if self._flow is not None:
            self._flow.kick()

    def _expire(self) -> None:
        """One timer for all who wait: their deadlines come in the order in which they asked."""
        self._timer = None
        now = self._loop.time()
        while self._deadlines:
            operation = self._deadlines[0]
            if operation.waiter is None:
                self._deadlines.popleft()
            elif operation.deadline <= now:
                self._deadlines.popleft()
                self.pending.give_up(
                    operation, StoreAway(f"store {self._address.shown}: no answer within {self._timeout:g} s")
                )
                self._kick()
            else:
                self._timer = self._loop.call_at(operation.deadline, self._expire)
                return

    async def _run(self) -> None:
        while True:
            wire: Wire | None = None
            try:
                wire, script = await self._connect()
                if await self._stay(wire, script):
                    return
            except StoreError as error:
                self._away(error)
            except Exception as error:
                log.exception("internal fault on the connection to the store")
                self._away(StoreAway(f"internal fault: {error}"))
            finally:
                if wire is not None:
                    self._wire = None
                    self._is_ready = False
                    self.run_id = None
                    self.pending.put_back()
                    await wire.close()
            # Many processes lose the store at the same moment: they must not come back at the same moment.
            await asyncio.sleep(self._pause * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
            self._pause = min(2 * self._pause, LONGEST_PAUSE)

    async def _connect(self) -> tuple[Wire, Script]:
        """A connection whose token makes calls that are still under way on an older one change nothing."""
        seconds = max(self._timeout, HANDSHAKE_SECONDS)
        wire = await Wire.open(self._address, seconds)
        try:
            async with asyncio.timeout(seconds):
                token = await self._take_over(wire)
        except BaseException as error:
            await wire.close()
            if isinstance(error, TimeoutError):
                raise StoreAway(f"store {self._address.shown}: no answer within {seconds:g} s") from None
            raise
        return wire, Script(wire, self._writer, token)

    async def _take_over(self, wire: Wire) -> str:
        """From here on only this connection writes for this writer: what is read now stays true."""
        name, token = keys.writer(self._writer), secrets.token_hex(8)
        if self._birth is not None:
            await self._birth.look(wire)
        await wire.call("SADD", keys.WRITERS, self._writer)
        await wire.call("HSET", name, "token", token, "host", gethostname())
        await wire.call("HINCRBY", name, "beat", 1)
        await wire.call("EXPIRE", name, keys.WRITER_KEPT_SECONDS)
        number = int(await wire.call("HGET", name, "number") or 0)
        held = await wire.call("HKEYS", keys.holds(self._writer))
        presumed = await wire.call("HKEYS", keys.presumed(self._writer))
        stored = Stored(number, frozenset(map(bytes.decode, held)), frozenset(map(bytes.decode, presumed)))
        self.on_stored(stored)
        if (wanted := self.pending.rewind(number)) != number:
            await wire.call("HSET", name, "number", wanted)
        self.pending.mend(stored)  # and no pause from here on: what is told now travels by itself
        self.run_id = wire.run_id
        self.life += 1
        return token

    async def _stay(self, wire: Wire, script: Script) -> bool:
        """Send what comes, until the connection is lost (raises) or the end (True)."""
        flow = Flow(wire, script, self.pending, self, self._timeout)
        self._wire, self._flow = wire, flow
        try:
            if self._attempted.done():
                log.info("store %s is back; %d charges wait for it", self._address.shown, self.pending.charges)
                self._why_away = f"store {self._address.shown}: back, and catching up"
            self.on_progress()  # what was applied on an earlier connection has now been counted
            lost = await flow.ended
        finally:
            self._flow = None
            flow.stop()
        if lost is not None:
            raise lost
        await self._leave(wire)
        return True

    def is_sending(self) -> None:
        """See Flow: who asks need not wait behind what has queued up, once that is less than a batch."""
        if not self._is_ready and not self._is_closing and len(self.pending) < BATCH:
            self._is_ready = True
            if not self._attempted.done():
                self._attempted.set_result(None)

    def has_applied(self) -> None:
        """See Flow."""
        self._pause = FIRST_PAUSE
        deadlines = self._deadlines
        while deadlines and deadlines[0].waiter is None:  # what was answered must not stay until its deadline
            deadlines.popleft()
        self.on_progress()

    def is_at_rest(self) -> None:
        """See Flow."""
        self._at_rest.set()

    async def _leave(self, wire: Wire) -> None:
        """Nothing of this writer stays."""
        name = self._writer
        try:
            async with asyncio.timeout(self._timeout):
                await wire.call("DEL", keys.writer(name), keys.holds(name), keys.presumed(name))
                await wire.call("SREM", keys.WRITERS, name)
        except TimeoutError:
            raise StoreAway(f"store {self._address.shown}: no answer within {self._timeout:g} s") from None

    def _away(self, error: StoreError) -> None:
        if not self._attempted.done():
            self._attempted.set_result(error)
            log.warning("%s", error)
        elif self._wire is not None or (isinstance(error, StoreRefused) and str(error) != self._why_away):
            log.warning("%s; charges wait until it is back", error)
        self._why_away = str(error)
