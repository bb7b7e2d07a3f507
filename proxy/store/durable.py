"""What the store will not lose: the journal may forget only that (rule 7).

Applied is not durable: a server that crashes or fails over comes back without its last moments. On a connection of its
own (the ordered one never waits) a small write follows what was applied, and the server says when that is on disk
(WAITAOF) and on a replica (WAIT).
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress

from proxy.errors import StoreAway, StoreError
from proxy.store import keys
from proxy.store.address import Address
from proxy.store.connection import OrderedConnection
from proxy.store.wire import CommandFailed, NotAllowed, Wire, info_of

PAUSE = 0.2  # seconds between questions
LONGEST_WAIT = 2.0  # seconds for an answer; an fsync follows every second, as servers are usually set
BLIND_WAIT = 3.0  # for servers that cannot be asked (Redis 7.0): several times what an fsync every second takes
CONNECT_SECONDS = 2.0
REPLICA_PATIENCE = 60.0
"""Seconds. A server that has just lost its replica is about to fail over to it, and then loses what that one missed."""

log = logging.getLogger(__name__)


class Durability:
    """Confirms to `pending` what the ordered connection has had applied, once it is durable."""

    def __init__(self, address: Address, ordered: OrderedConnection, *, on_confirmed: Callable[[], object]) -> None:
        self._address = address
        self._ordered = ordered
        self._on_confirmed = on_confirmed
        self._wire: Wire | None = None
        self._applied = asyncio.Event()
        self._has_warned = False
        self._can_wait = True
        self._loop = asyncio.get_running_loop()
        # When there was a replica, as far as one can know; None: none is expected.
        self._replica_at = self._loop.time() if address.has_replicas else None
        self._task = self._loop.create_task(self._run(), name="store durability")

    def look(self) -> None:
        """Something was applied."""
        self._applied.set()

    async def close(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        await self._drop()

    async def _run(self) -> None:
        pending = self._ordered.pending
        while True:
            await self._applied.wait()
            self._applied.clear()
            while pending.durable < pending.counted:
                try:
                    await self._confirm()
                except StoreError as error:
                    log.debug("not known to be durable yet: %s", error)
                    await self._drop()
                except Exception:
                    log.exception("internal fault while asking what is durable")
                    await self._drop()
                await asyncio.sleep(PAUSE)

    async def _confirm(self) -> None:
        """Raises StoreError when that is not known yet."""
        life, number = self._ordered.life, self._ordered.pending.counted
        if not self._ordered.is_connected:
            raise StoreAway(self._ordered.why_away)
        if self._wire is None:
            self._wire = await Wire.open(self._address, CONNECT_SECONDS)
        if self._wire.run_id != self._ordered.run_id:
            raise StoreAway("another server answers than the one that has applied it")
        try:
            async with asyncio.timeout(LONGEST_WAIT + BLIND_WAIT + CONNECT_SECONDS):
                await self._wire.call("SET", keys.DURABLE, number)
                await self._wait(self._wire)
        except TimeoutError:
            raise StoreAway(f"store {self._address.shown}: no answer") from None
        if life != self._ordered.life:
            raise StoreAway("the connection was lost meanwhile")
        self._ordered.pending.confirm(number)
        self._on_confirmed()

    async def _wait(self, wire: Wire) -> None:
        """Until what was written before on this server is durable, as far as it can be."""
        try:
            info = info_of(await wire.call("INFO", "persistence", "replication"))
        except NotAllowed:
            info = {"aof_enabled": "1"}  # asking for it tells
        has_file, has_replicas = info.get("aof_enabled") == "1", self._has_replicas(info)
        if has_file:
            has_file = await self._on_disk(wire)
        if has_replicas and await wire.call("WAIT", 1, int(LONGEST_WAIT * 1000)) < 1:
            raise StoreAway("no replica has it yet")
        if not has_file and not has_replicas and not self._has_warned:
            self._has_warned = True
            log.warning(
                "store %s keeps no append-only file and has no replica: what it loses with its memory is lost",
                self._address.shown,
            )

    def _has_replicas(self, info: Mapping[str, str]) -> bool:
        """Raises StoreAway where one was there and is awaited."""
        now = self._loop.time()
        if info.get("connected_slaves", "0") != "0":
            self._replica_at = now
            return True
        if self._replica_at is not None:
            if now - self._replica_at < REPLICA_PATIENCE:
                raise StoreAway("its replica is away")
            self._replica_at = None
            log.warning(
                "store %s has had no replica for %g s: what it alone has on disk counts as durable again",
                self._address.shown,
                REPLICA_PATIENCE,
            )
        return False

    async def _on_disk(self, wire: Wire) -> bool:
        """Waits for the append-only file; False where there is none. Raises StoreAway."""
        if self._can_wait:
            try:
                answer = await wire.call("WAITAOF", 1, 0, int(LONGEST_WAIT * 1000))
            except NotAllowed:
                return False
            except CommandFailed as error:
                if "disabled" in str(error):
                    return False
                self._can_wait = False  # a server before 7.2
            else:
                if answer[0] < 1:
                    raise StoreAway("it is not on disk yet")
                return True
        await asyncio.sleep(BLIND_WAIT)
        if info_of(await wire.call("INFO", "persistence")).get("aof_last_write_status") != "ok":
            raise StoreAway("the append-only file cannot be written")
        return True

    async def _drop(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.close()
