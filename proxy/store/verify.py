"""Do budgets and day sums follow from the ledger? Everything is added up again, while the store goes on working.

A script reads some accounts, or a day, together with the place that the ledger had at that moment; then the ledger is
read up to just there, and the two are compared. Memory: a number for each account and each field of the day sums,
eight bytes for each entry (fifty while they are sorted at the end), and one page of the ledger. Meanwhile nothing is
trimmed; if it was all the same, it starts again.
"""

from array import array
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from itertools import pairwise
from typing import Any

from proxy.budgets.period import never_ends_before
from proxy.errors import StoreRefused
from proxy.ledger.entry import LedgerEntry
from proxy.ledger.fold import Fold
from proxy.ledger.invariants import problem_of
from proxy.store import keys
from proxy.store.ledger import Ledger, Line, after
from proxy.store.packing import pack
from proxy.store.reads import LONGEST_SECONDS, Reads

ACCOUNTS_A_CUT = 500
NAMES_A_SCAN = 1000
TRIES = 3

_SOURCE = files("proxy.store").joinpath("cut.lua").read_bytes()
_NOTHING = b"0-0"
_ID_BITS = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Difference:
    """The first thing that does not add up. `found` None: it is not there."""

    what: str
    """`spent`, `held`, `day`, or, with a reason, `line` and `number`."""
    where: str
    """An account's key; a day with the field of its sums; a line's place and id; where the number stands."""
    expected: int | None
    found: int | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was compared, and the first difference if there is one."""

    lines: int
    corrections: int
    trimmed_lines: int
    accounts: int
    skipped: int
    """Accounts whose keys have expired, long after their periods: there is nothing to compare with."""
    holds: int
    days: int
    difference: Difference | None


class _TrimmedMeanwhile(Exception):  # noqa: N818 - not a fault: it starts again
    pass


class _Differs(Exception):  # noqa: N818 - an answer, not a fault
    def __init__(self, difference: Difference) -> None:
        super().__init__(difference)
        self.difference = difference


async def verify(reads: Reads) -> Verdict:
    """Raises StoreAway, and StoreRefused where the ledger cannot be read."""
    for _ in range(TRIES):
        try:
            return await _Verification(reads).run()
        except _TrimmedMeanwhile:
            continue
    raise StoreRefused("the ledger is trimmed faster than it can be read: try again later")


class _Verification:
    """One go. Counts as it goes, so that a difference comes with what was compared before it."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads
        self._ledger = Ledger(reads)
        self._fold = Fold()
        self._ids = array("Q")
        self._place = _NOTHING
        self._until: bytes | None = None
        self._accounts = self._skipped = self._holds = self._days = 0

    async def run(self) -> Verdict:
        async with self._ledger.undisturbed() as self._sign:
            return await self._undisturbed()

    async def _undisturbed(self) -> Verdict:
        self._until = await self._call("HGET", keys.TRIMMED, "place")
        trimmed = (await self._ledger.span()).trimmed_lines
        difference = None
        try:
            await self._read_on(None)
            await self._compare_accounts()
            await self._compare_days()
            await self._look_for_repeated()
        except _Differs as found:
            difference = found.difference
        counts = (self._accounts, self._skipped, self._holds, self._days)
        return Verdict(self._fold.lines, self._fold.corrections, trimmed, *counts, difference)

    async def _compare_accounts(self) -> None:
        names = {name async for name in self._names(keys.COMMITTED)} | {name async for name in self._names(keys.HELD)}
        names |= {name async for name in self._names(keys.TRIMMED_ACCOUNT)}
        names |= self._fold.accounts.keys()
        names |= {key.decode() for key in await self._call("HKEYS", keys.OPENING)}
        _, _, records = await self._cut([])
        ordered = sorted(names | held_by(records).keys())
        for start in range(0, len(ordered), ACCOUNTS_A_CUT):
            some = ordered[start : start + ACCOUNTS_A_CUT]
            place, values, records = await self._cut(some)
            await self._read_on(place)
            holds = held_by(records)
            self._holds = max(self._holds, len(records))
            for key, four in zip(some, zip(*[iter(values)] * 4, strict=True), strict=True):
                self._compare_account(key, four, holds.get(key, 0))

    def _compare_account(self, key: str, four: Sequence[bytes | None], holds: int) -> None:
        committed, held, trimmed, opening = four
        spent = self._fold.accounts.get(key, 0) + _number(trimmed, key) + _number(opening, key)
        if committed is None and held is None and (may_have_expired(key) or (spent == 0 and holds == 0)):
            self._skipped += 1
            return
        self._accounts += 1
        if committed is None or held is None:
            missing = "spent" if committed is None else "held"
            raise _Differs(Difference(missing, key, spent if committed is None else holds, None, "its key is gone"))
        if _number(held, key) != holds:
            raise _Differs(Difference("held", key, holds, _number(held, key)))
        if _number(committed, key) - holds != spent:
            raise _Differs(Difference("spent", key, spent, _number(committed, key) - holds))

    async def _compare_days(self) -> None:
        days = {name async for name in self._names(keys.SUMS)} | {name async for name in self._names(keys.TRIMMED_SUMS)}
        for day in sorted(days | self._fold.days.keys()):
            place, sums, trimmed = await self._cut(day)
            await self._read_on(place)
            expected = dict(self._fold.days.get(day, {}))
            for field, number in _pairs(trimmed):
                expected[field] = expected.get(field, 0) + number
            found = dict(_pairs(sums))
            for field in sorted(expected.keys() | found.keys()):
                if expected.get(field, 0) != found.get(field, 0):
                    where = f"{day} {field}"
                    raise _Differs(Difference("day", where, expected.get(field, 0), found.get(field)))
            self._days += 1

    async def _look_for_repeated(self) -> None:
        """Two lines "entry" of one id would be a request that was charged twice."""
        ordered = sorted(self._ids)
        alike = {this for this, following in pairwise(ordered) if this == following}
        if not alike:
            return
        seen: set[str] = set()
        async for page in self._ledger.forwards(last=self._place.decode()):
            for line in page:
                entry = line.entry
                if entry.line == "entry" and hash(entry.id) & _ID_BITS in alike:
                    if entry.id in seen:
                        raise _Differs(Difference("line", _place_of(line, entry), None, None, "it has an earlier twin"))
                    seen.add(entry.id)

    async def _cut(self, wanted: Sequence[str] | str) -> tuple[bytes, list[Any], list[Any]]:
        """The place of the ledger and two lists, of one moment."""
        await self._sign.give()
        names = (keys.LEDGER, keys.TRIMMED, keys.WRITERS, keys.PARKED, keys.OPENING)
        prefixes = (keys.COMMITTED, keys.HELD, keys.TRIMMED_ACCOUNT, keys.SUMS, keys.TRIMMED_SUMS, keys.holds(""))
        place, until, first, second = await self._call("EVAL", _SOURCE, len(names), *names, *prefixes, pack(wanted))
        if until != self._until:
            raise _TrimmedMeanwhile
        return place, first, second

    async def _read_on(self, place: bytes | None) -> None:
        """Add up the lines after what was read, up to a place (None: to the end)."""
        if place is not None and _order(place) <= _order(self._place):
            return
        first = "-" if self._place == _NOTHING else after(self._place)
        async for page in self._ledger.forwards(first, last="+" if place is None else place.decode()):
            for line in page:
                self._add(line)
            self._place = page[-1].place
            await self._sign.give()

    def _add(self, line: Line) -> None:
        try:
            entry = line.entry
        except StoreRefused as error:
            raise _Differs(Difference("line", line.place.decode(), None, None, str(error))) from None
        if problem := problem_of(entry):
            raise _Differs(Difference("line", _place_of(line, entry), None, None, f"it {problem}"))
        self._fold.add(entry)
        if entry.line == "entry":
            self._ids.append(hash(entry.id) & _ID_BITS)

    async def _names(self, prefix: str) -> AsyncIterator[str]:
        """What follows a prefix in the names of keys. A name may come twice."""
        cursor = b"0"
        pattern = prefix.replace("[", "\\[") + "*"
        while True:
            cursor, names = await self._call("SCAN", cursor, "MATCH", pattern, "COUNT", NAMES_A_SCAN)
            for name in names:
                yield name.decode()[len(prefix) :]
            if cursor == b"0":
                return

    async def _call(self, *arguments: bytes | str | int) -> Any:
        return await self._reads.call(*arguments, seconds=LONGEST_SECONDS)


def _place_of(line: Line, entry: LedgerEntry) -> str:
    return f"{line.place.decode()} {entry.id}"


def held_by(records: Sequence[bytes]) -> dict[str, int]:
    """Account key → what holds say together. A record: lines of `nanos account-key`, an empty line, the request."""
    held: dict[str, int] = {}
    for record in records:
        for text in record.partition(b"\n\n")[0].decode().split("\n"):
            amount, blank, key = text.partition(" ")
            if blank:
                held[key] = held.get(key, 0) + int(amount)
    return held


def may_have_expired(account_key: str, now: datetime | None = None) -> bool:
    """Whether the keys of this account may be gone, because its period ended long ago."""
    end = never_ends_before(account_key.split("/")[1] if "/" in account_key else "")
    if end is None:
        return False
    at = datetime.now(UTC) if now is None else now
    return (at - end).total_seconds() >= keys.KEPT_AFTER_PERIOD_SECONDS


def _pairs(flat: Sequence[bytes]) -> Iterator[tuple[str, int]]:
    for field, value in zip(flat[::2], flat[1::2], strict=True):
        yield field.decode(), _number(value, field.decode())


def _number(text: bytes | None, where: str) -> int:
    if text is None:
        return 0
    try:
        return int(text)
    except ValueError:
        raise _Differs(Difference("number", where, None, None, f"{text!r} is no number")) from None


def _order(place: bytes) -> tuple[int, int]:
    millis, _, number = place.partition(b"-")
    return int(millis), int(number or 0)
