"""The ordered connection: one a process. Batches of operations go to the store in order, one call at a time.

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
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from socket import gethostname
from typing import TypeVar

from proxy.errors import StoreAway, StoreError, StoreRefused
from proxy.store import keys
from proxy.store.address import Address
from proxy.store.birth import Birth
from proxy.store.finished import Numbered
from proxy.store.operations import Asked, Check, Hold, Operation, Refusal, Release, packed
from proxy.store.pending import BATCH, GapFoundError, Pending, Stored
from proxy.store.script import Script, ScriptFailed
from proxy.store.wire import Wire

HANDSHAKE_SECONDS = 2.0  # at least: a server that was stopped answers late, and each new attempt costs it something
LOOK_SECONDS = 0.5  # without work: see whether the other side has closed the connection
PING_EVERY = 10  # looks: see whether the store still answers
BEAT_SECONDS = 10.0  # a sweeper takes a writer for dead whose beat has stood still for 45 s
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0

log = logging.getLogger(__name__)
T = TypeVar("T")


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
        self._forgets = False
        self._why_away = f"store {address.shown}: not connected yet"
        self._pause = FIRST_PAUSE
        self._work = asyncio.Event()
        self._done = asyncio.Event()  # nothing is pending
        self._done.set()
        self._attempted: asyncio.Future[StoreError | None] = self._loop.create_future()
        self._deadlines: deque[tuple[float, Asked]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._beat_at = 0.0
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

    async def ask(self, operation: Hold | Check) -> Refusal | None:
        """Wait for the answer, at most for the timeout. Raises StoreAway; a hold is then given back."""
        if not self._is_ready:
            raise StoreAway(self._why_away)
        answer: asyncio.Future[Refusal | None] = self._loop.create_future()
        operation.answer = answer
        self._append(operation)
        self._deadlines.append((self._loop.time() + self._timeout, operation))
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout, self._expire)
        try:
            return await answer
        except asyncio.CancelledError:
            self._give_up(operation)
            raise

    def tell(self, operation: Hold | Release | Numbered) -> None:
        """Nobody waits. A hold that comes while the store is away is made when it is back, if it is still needed."""
        if self._wire is None and isinstance(operation, Hold):
            return
        self._append(operation)

    async def close(self, drain: float) -> None:
        """Send what is pending for at most so many seconds. Nobody asks any more."""
        self._is_ready = False
        self._is_closing = True
        self._why_away = "the store is being closed"
        with suppress(TimeoutError):
            async with asyncio.timeout(drain):
                await self._done.wait()

    async def end(self, *, forget: bool) -> None:
        """After `close`. `forget`: nothing of this writer will ever come again, and nothing of it stays."""
        if forget and self._wire is not None and not len(self.pending):
            self._forgets = True
            self._work.set()  # the task removes what this writer has left in the store, and ends
            with suppress(TimeoutError):
                async with asyncio.timeout(self._timeout):
                    await asyncio.shield(self._task)
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        if self._timer is not None:
            self._timer.cancel()
        self.pending.close(self._why_away)

    def _append(self, operation: Operation) -> None:
        self.pending.append(operation)
        self._done.clear()
        self._work.set()

    def _give_up(self, operation: Asked) -> None:
        operation.given_up = True
        if isinstance(operation, Hold) and operation.sent:
            self._append(Release(operation.entry_id))

    def _expire(self) -> None:
        """One timer for all who wait: their deadlines come in the order in which they asked."""
        self._timer = None
        now = self._loop.time()
        while self._deadlines:
            deadline, operation = self._deadlines[0]
            if operation.answer is None or operation.answer.done():
                self._deadlines.popleft()
            elif deadline <= now:
                self._deadlines.popleft()
                operation.fail(f"store {self._address.shown}: no answer within {self._timeout:g} s")
                self._give_up(operation)
            else:
                self._timer = self._loop.call_at(deadline, self._expire)
                return

    async def _run(self) -> None:
        while True:
            wire: Wire | None = None
            try:
                wire, script = await self._connect()
                if await self._flow(wire, script):
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

    async def _flow(self, wire: Wire, script: Script) -> bool:
        """Send what comes, until the connection is lost (raises) or the end (True)."""
        self._wire = wire
        if self._attempted.done():
            log.info("store %s is back; %d charges wait for it", self._address.shown, self.pending.charges)
            self._why_away = f"store {self._address.shown}: back, and catching up"
        self._beat_at = self._loop.time() + BEAT_SECONDS
        self.on_progress()  # what was applied on an earlier connection has now been counted
        while True:
            if not self._is_ready and not self._is_closing and len(self.pending) < BATCH:
                self._is_ready = True
                if not self._attempted.done():
                    self._attempted.set_result(None)
            if self._beat_at <= self._loop.time():
                self._beat_at = self._loop.time() + BEAT_SECONDS
                self.pending.beat()
            batch = self.pending.take()
            if not batch:
                self._done.set()
                if self._forgets:
                    await self._within(self._leave(wire))
                    return True
                await self._rest(wire)
                continue
            try:
                answers = await self._within(script.apply(packed(batch)))
            except ScriptFailed as error:
                if not self.pending.failed(str(error)):
                    raise StoreAway(str(error)) from None
                continue
            self._pause = FIRST_PAUSE
            try:
                has_ended = self.pending.answered(answers)
            except GapFoundError:
                raise StoreAway(f"store {self._address.shown}: it was rolled back") from None
            self.on_progress()
            if not has_ended:
                await asyncio.sleep(self._pause)

    async def _leave(self, wire: Wire) -> None:
        """Nothing of this writer stays."""
        name = self._writer
        await wire.call("DEL", keys.writer(name), keys.holds(name), keys.presumed(name))
        await wire.call("SREM", keys.WRITERS, name)

    async def _within(self, call: Awaitable[T]) -> T:
        """The answer, or StoreAway after the timeout: then nobody knows whether the call will still be carried out."""
        try:
            async with asyncio.timeout(self._timeout):
                return await call
        except TimeoutError:
            raise StoreAway(f"store {self._address.shown}: no answer within {self._timeout:g} s") from None

    async def _rest(self, wire: Wire) -> None:
        """Until there is work. A store that is lost meanwhile is noticed."""
        self._work.clear()
        for look in count(1):
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._work.wait()
            except TimeoutError:
                await wire.look()
                if look % PING_EVERY == 0:
                    await self._within(wire.call("PING"))
            else:
                return
            if self._beat_at <= self._loop.time():
                return

    def _away(self, error: StoreError) -> None:
        if not self._attempted.done():
            self._attempted.set_result(error)
            log.warning("%s", error)
        elif self._wire is not None or (isinstance(error, StoreRefused) and str(error) != self._why_away):
            log.warning("%s; charges wait until it is back", error)
        self._why_away = str(error)
