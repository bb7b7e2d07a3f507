"""Corrections to the ledger, in batches: each is a reversal and a replacement, written together or not at all.

One at a time re-prices, known by a token that ends by itself. A batch has a number, so that it counts once however
often it arrives; after a crash the next one reads what is there and goes on with that.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from importlib.resources import files
from typing import Any

import msgspec

from proxy.errors import StoreRefused, UsageError
from proxy.ledger.entry import LedgerEntry
from proxy.ledger.opened import MovedAccount
from proxy.store import keys
from proxy.store.ledger import Ledger, began_within, place_at
from proxy.store.packing import MAX_AMOUNT, charge_of, pack, reversal_of
from proxy.store.reads import LONGEST_SECONDS, Reads

CORRECTIONS_A_BATCH = 16  # about a millisecond and a half of the store's time
TOKEN_SECONDS = 60
PAUSE_SECONDS = 0.002  # between two batches: charges go first

_SOURCE = files("proxy.store").joinpath("reprice.lua").read_bytes()
_json = msgspec.json.Encoder().encode

Correction = tuple[LedgerEntry, LedgerEntry]
"""What is in force, and what is to be instead."""


async def current_entries(ledger: Ledger, since: datetime, until: datetime | None) -> AsyncIterator[list[LedgerEntry]]:
    """What is in force of each attempt with `since` ≤ at < `until`, newest first, in pages.

    Read backwards, the first line met of an id decides: a replacement stands after its reversal, a reversal alone
    takes the entry back for good. Memory: the ids of corrections whose entries are yet to come.
    """
    decided: set[str] = set()
    async for page in ledger.backwards(place_at(since)):
        found = []
        for line in page:
            entry = line.entry
            if entry.id in decided:
                if entry.line == "entry":
                    decided.discard(entry.id)
                continue
            if entry.line == "correction":
                decided.add(entry.id)
            if entry.requests > 0 and began_within(entry, since, until):
                found.append(entry)
        yield found


class Repricer:
    """Writes corrections. Use as: begin, apply as often as need be, end; what was applied stays when it breaks off."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads
        self._token = secrets.token_hex(8)
        self._number = 0
        self._seen_at = 0.0

    async def begin(self, audit: Mapping[str, object]) -> None:
        """Raises UsageError while somebody else re-prices. What is read from now on includes all that others did."""
        if not await self._call("begin", _json(audit)):
            raise UsageError(
                f"somebody else re-prices this ledger now: wait for it (after a crash, {TOKEN_SECONDS} seconds)"
            )

    async def apply(self, corrections: Sequence[Correction]) -> list[bool]:
        """Whether each was written; it was not where the entry was corrected meanwhile. Any number of them."""
        done: list[bool] = []
        for start in range(0, len(corrections), CORRECTIONS_A_BATCH):
            done += await self._batch(corrections[start : start + CORRECTIONS_A_BATCH])
            await asyncio.sleep(PAUSE_SECONDS)
        return done

    async def stay(self) -> None:
        """A sign of life while there is nothing to write. Raises StoreRefused when it is over."""
        if asyncio.get_running_loop().time() - self._seen_at > TOKEN_SECONDS / 6:
            await self._batch([])

    async def end(self, audit: Mapping[str, object]) -> None:
        await self._call("end", _json(audit))

    async def _batch(self, corrections: Sequence[Correction]) -> list[bool]:
        self._number += 1
        answers = await self._call("apply", str(self._number), pack([_payload(*each) for each in corrections]))
        if not isinstance(answers, list) or len(answers) != len(corrections):
            raise StoreRefused(f"corrections cannot be written: {answers!r}")
        return [answer == 1 for answer in answers]

    async def _call(self, action: str, *arguments: bytes | str) -> Any:
        names = (keys.REPRICE, keys.LEDGER, keys.AUDIT)
        answer = await self._reads.call(
            *("EVAL", _SOURCE, len(names), *names, self._token, TOKEN_SECONDS, keys.COMMITTED, keys.SUMS, action),
            *arguments,
            seconds=LONGEST_SECONDS,
        )
        self._seen_at = asyncio.get_running_loop().time()
        return answer


def _payload(old: LedgerEntry, new: LedgerEntry) -> tuple[object, ...]:
    if abs(new.cost_nanos or 0) > MAX_AMOUNT:
        raise UsageError(f"{new.id} would cost more than any request can: {new.cost_nanos} nanos")
    new = msgspec.structs.replace(new, line="correction")
    # What was presumed may still be told, by its writer or by whoever hears of the end of a background response.
    remembered, is_parked = "", 0
    if old.writer is not None:
        remembered = keys.presumed(old.writer)
    elif old.upstream_id is not None and "presumed" in (old.status, old.counted_as):
        remembered, is_parked = keys.background(old.upstream_id), 1
    accounts = [MovedAccount(moved.budget, moved.period, "", "", "") for moved in new.moved]
    back = reversal_of(new) if remembered else ""
    return reversal_of(old), charge_of(new, accounts), remembered, back, is_parked
