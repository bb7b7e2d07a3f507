"""Reading the ledger's stream: forwards, backwards, from a time, while it goes on growing."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from proxy.errors import StoreAway, StoreRefused
from proxy.ledger.entry import LedgerEntry
from proxy.store import keys
from proxy.store.reads import LONGEST_SECONDS, Reads

LINES_A_CALL = 1000  # about 700 KB
CLOCK_SKEW = timedelta(hours=1)  # between whoever wrote an entry's time and the store that received it

SIGN_SECONDS = 60  # so long is nothing trimmed after a sign of life of whoever reads

_entry = msgspec.json.Decoder(LedgerEntry).decode
_END = "+"


@dataclass(frozen=True, slots=True)
class Line:
    """A line as it stands in the stream. Its place sorts: milliseconds of the store's clock, and a number."""

    place: bytes
    raw: bytes

    @property
    def entry(self) -> LedgerEntry:
        """Raises StoreRefused for what is no line of a ledger."""
        try:
            return _entry(self.raw)
        except msgspec.DecodeError as error:
            raise StoreRefused(f"ledger line {self.place.decode()} cannot be read: {error}") from None

    @property
    def millis(self) -> int:
        return int(self.place.partition(b"-")[0])

    @property
    def applied_at(self) -> datetime:
        return moment_of(self.place)


@dataclass(frozen=True, slots=True)
class Span:
    """How much of the ledger is there. `trimmed_until`: what was applied up to then is only in checkpoint sums."""

    lines: int
    first_at: datetime | None
    trimmed_lines: int
    trimmed_until: datetime | None


class Ledger:
    """The stream, for whoever reads it. Raises StoreAway and StoreRefused."""

    def __init__(self, reads: Reads, *, lines_a_call: int = LINES_A_CALL) -> None:
        self._reads = reads
        self._lines_a_call = lines_a_call

    async def span(self) -> Span:
        lines = await self._call("XLEN", keys.LEDGER)
        first = await self._call("XRANGE", keys.LEDGER, "-", "+", "COUNT", 1)
        place, trimmed = await self._call("HMGET", keys.TRIMMED, "place", "lines")
        return Span(
            lines,
            moment_of(first[0][0]) if first else None,
            int(trimmed or 0),
            moment_of(place) if place is not None else None,
        )

    async def forwards(self, first: str = "-", *, last: str = _END) -> AsyncIterator[list[Line]]:
        """Pages from `first` to `last` (both included), as they stand when they are read; ends at the end."""
        while page := await self._page("XRANGE", first, last):
            yield page
            if len(page) < self._lines_a_call:
                return
            first = after(page[-1].place)

    async def backwards(self, first: str = "-") -> AsyncIterator[list[Line]]:
        """Pages from the newest line down to `first`."""
        last = _END
        while page := await self._page("XREVRANGE", last, first):
            yield page
            if len(page) < self._lines_a_call:
                return
            last = after(page[-1].place)

    async def entries(self, since: datetime | None, until: datetime | None) -> AsyncIterator[LedgerEntry]:
        """Lines of what began from `since` up to and without `until`, in the order in which they were applied."""
        async for page in self.forwards("-" if since is None else place_at(since)):
            for line in page:
                entry = line.entry
                if began_within(entry, since, until):
                    yield entry

    async def newest(self, count: int) -> list[Line]:
        """The last lines, the oldest of them first."""
        found: list[Line] = []
        last = _END
        while len(found) < count:
            page = await self._page("XREVRANGE", last, "-", min(count - len(found), self._lines_a_call))
            if not page:
                break
            found += page
            last = after(page[-1].place)
        return found[::-1]

    async def of_id(self, entry_id: str, begun: datetime) -> list[Line]:
        """Every line of an entry that began then, from there on: corrections may be much younger than the entry."""
        needle = entry_id.encode()
        found: list[Line] = []
        async for page in self.forwards(place_at(begun)):
            found += [line for line in page if needle in line.raw and line.entry.id == entry_id]
        return found

    async def audit(self) -> list[tuple[datetime, dict[str, Any]]]:
        """What people changed, oldest first: when the store took it down, and what they did."""
        lines = await self._call("XRANGE", keys.AUDIT, "-", "+")
        return [(moment_of(place), msgspec.json.decode(fields[1])) for place, fields in lines]

    @asynccontextmanager
    async def undisturbed(self) -> AsyncIterator["Sign"]:
        """Nothing is trimmed meanwhile, as long as whoever reads gives a sign of life now and then."""
        sign = Sign(self._reads)
        await sign.give()
        try:
            yield sign
        finally:
            with suppress(StoreAway):  # then it ends by itself
                await sign.take_back()

    async def _page(self, command: str, start: str, end: str, count: int | None = None) -> list[Line]:
        lines = await self._call(command, keys.LEDGER, start, end, "COUNT", count or self._lines_a_call)
        return [Line(place, fields[1]) for place, fields in lines]

    async def _call(self, *arguments: str | int) -> Any:
        return await self._reads.call(*arguments, seconds=LONGEST_SECONDS)


class Sign:
    """There while somebody reads the whole ledger: trimming waits."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads
        self._text = secrets.token_hex(8)
        self._given_at = -float(SIGN_SECONDS)

    async def give(self) -> None:
        """Cheap: most of the time the last one still holds."""
        now = asyncio.get_running_loop().time()
        if now - self._given_at > SIGN_SECONDS / 6:
            await self._reads.call("SET", keys.READING, self._text, "EX", SIGN_SECONDS, seconds=LONGEST_SECONDS)
            self._given_at = now

    async def take_back(self) -> None:
        if await self._reads.call("GET", keys.READING) == self._text.encode():  # not that of another who still reads
            await self._reads.call("DEL", keys.READING)


def began_within(entry: LedgerEntry, since: datetime | None, until: datetime | None) -> bool:
    at = datetime.fromisoformat(entry.at).astimezone(UTC)
    return (since is None or since <= at) and (until is None or at < until)


def moment_of(place: bytes) -> datetime:
    """When the store took a line down: its clock, milliseconds."""
    return datetime.fromtimestamp(int(place.partition(b"-")[0]) / 1000, UTC)


def after(place: bytes) -> str:
    """From there on, in the direction of reading, without the place itself."""
    return f"({place.decode()}"


def place_at(begun: datetime) -> str:
    """No line of what began then, or later, stands before this place."""
    return str(max(0, int((begun - CLOCK_SKEW).timestamp() * 1000)))
