"""Sweeping: what nobody will finish becomes presumed entries (rule 5). Who is dead is the caller's to know.

A sweeper takes the dead writer's place, token and all: if that writer lives after all, its next call is superseded, it
connects again, and what was presumed of it is corrected. And only if its beat is still the one that was seen.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec

from proxy.errors import StoreAway
from proxy.ledger.entry import LedgerEntry
from proxy.ledger.opened import Opened
from proxy.store import keys
from proxy.store.address import Address
from proxy.store.operations import ForgetParked, Presume, PresumeParked, Release, Retire, Swept, packed
from proxy.store.pending import BATCH
from proxy.store.reads import LONGEST_SECONDS
from proxy.store.script import Script
from proxy.store.wire import Wire

ITSELF = "sweeper"
"""The writer in whose name parked requests are presumed."""
FORGET_SECONDS = 90 * 86_400
PARKED_A_CALL = 500

# KEYS 1 a writer; ARGV 1 the beat that was seen, 2 a token, 3 seconds to keep it. Its place is taken only if it has not
# moved since.
_TAKE = """\
if (redis.call('HGET', KEYS[1], 'beat') or '') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'token', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""

log = logging.getLogger(__name__)
_opened = msgspec.json.Decoder(Opened).decode
OnPresumed = Callable[[LedgerEntry], object]


class Sweeping:
    """Over connections of its own, made for each sweep: it happens rarely, and must not be in anybody's way."""

    def __init__(self, url: str, on_presumed: OnPresumed) -> None:
        """`on_presumed` hears of each entry that was made."""
        self._address = Address(url)
        self._on_presumed = on_presumed

    async def beats(self) -> dict[str, str]:
        """Every writer that may hold something, and its beat now. Raises StoreError."""
        async with self._wire() as wire:
            names = sorted(name.decode() for name in await wire.call("SMEMBERS", keys.WRITERS))
            beats = [await wire.call("HGET", keys.writer(name), "beat") for name in names]
        return {name: "" if beat is None else beat.decode() for name, beat in zip(names, beats, strict=True)}

    async def sweep(self, writer: str, beat: str, reason: str) -> int:
        """Presume all that a dead writer holds. How many; none where it has moved since. Raises StoreError."""
        async with self._wire() as wire:
            token = secrets.token_hex(8)
            taken = await wire.call("EVAL", _TAKE, 1, keys.writer(writer), beat, token, keys.WRITER_KEPT_SECONDS)
            if not taken:
                return 0
            script = Script(wire, writer, token)
            ids = await wire.call("HKEYS", keys.holds(writer))
            count = 0
            for start in range(0, len(ids), BATCH):
                some = ids[start : start + BATCH]
                records = await wire.call("HMGET", keys.holds(writer), *some)
                operations: list[Swept] = []
                for entry_id, record in zip(some, records, strict=True):
                    request = record.partition(b"\n\n")[2] if record else None
                    if request == b"":  # an advance: no request's
                        operations.append(Release(entry_id.decode()))
                    elif request and (opened := _read(request)):
                        operations.append(Presume(opened, reason, writer))
                count += await self._presume(script, operations)
            await script.apply(packed([Retire(writer)]))
            return count

    async def sweep_parked(self, now: int, reason: str) -> int:
        """Presume parked requests whose time is up, forget those presumed long ago; so many at a time."""
        async with self._wire() as wire:
            token = secrets.token_hex(8)
            await wire.call("HSET", keys.writer(ITSELF), "token", token)
            script = Script(wire, ITSELF, token)
            members = await wire.call("ZRANGE", keys.PARKED, "-inf", now, "BYSCORE", "LIMIT", 0, PARKED_A_CALL)
            operations: list[Swept] = []
            for member in members:
                entry_id, _, key = member.decode().partition(" ")
                value = await wire.call("HGET", key, entry_id) or b"\n!"
                held = value.partition(b"\n")[2]
                if held.startswith(b"!"):
                    operations.append(ForgetParked(entry_id, key))
                elif opened := _read(held.partition(b"\n\n")[2]):
                    operations.append(PresumeParked(opened, reason, key, now + FORGET_SECONDS))
            count = 0
            for start in range(0, len(operations), BATCH):
                count += await self._presume(script, operations[start : start + BATCH])
            return count

    async def _presume(self, script: Script, operations: Sequence[Swept]) -> int:
        answers = await script.apply(packed(operations))
        count = 0
        for operation, answer in zip(operations, answers, strict=True):
            if not isinstance(answer, int):
                log.error("a hold cannot be presumed: %s", answer)
            elif answer == 0 and operation.entry is not None:
                count += 1
                self._on_presumed(operation.entry)
        return count

    @asynccontextmanager
    async def _wire(self) -> AsyncIterator[Wire]:
        wire = await Wire.open(self._address, LONGEST_SECONDS)
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                yield wire
        except TimeoutError:
            raise StoreAway(f"store {self._address.shown}: no answer within {LONGEST_SECONDS:g} s") from None
        finally:
            await wire.close()


def _read(record: bytes) -> Opened | None:
    try:
        return _opened(record)
    except msgspec.DecodeError as error:
        log.error("what is held for a request cannot be read, and stays held: %s", error)  # noqa: TRY400 - a finding
        return None
