"""Retention: the oldest lines become checkpoint sums, in the script that takes them out of the stream."""

import asyncio
from datetime import timedelta
from importlib.resources import files

from proxy.errors import StoreRefused
from proxy.ledger.fold import Fold
from proxy.store import keys
from proxy.store.ledger import Line
from proxy.store.packing import pack
from proxy.store.reads import LONGEST_SECONDS, Reads

LINES_A_FOLD = 100  # about a millisecond of the store's time
PAUSE_SECONDS = 0.005  # between two folds: charges go first

_SOMEBODY_READS = -1
_SOURCE = files("proxy.store").joinpath("trim.lua").read_bytes()


async def trim(reads: Reads, *, keep: timedelta, most: int) -> int:
    """Fold what is older than `keep` by the store's clock, and what is more than `most` lines. Returns how many.

    Bears being interrupted and being done twice. Stops early while somebody reads all of the ledger.
    """
    seconds, _ = await reads.call("TIME", seconds=LONGEST_SECONDS)
    oldest = (int(seconds) - int(keep.total_seconds())) * 1000
    done = 0
    while True:
        found = await reads.call("XRANGE", keys.LEDGER, "-", "+", "COUNT", LINES_A_FOLD, seconds=LONGEST_SECONDS)
        # After the lines: if another trims in between, they are not the first any more, and the script says 0.
        surplus = await reads.call("XLEN", keys.LEDGER, seconds=LONGEST_SECONDS) - most
        lines = [Line(place, fields[1]) for place, fields in found]
        old = sum(line.millis < oldest for line in lines)
        lines = lines[: max(old, surplus, 0)]
        if not lines:
            return done
        answer = await _fold(reads, lines)
        if answer == _SOMEBODY_READS:
            return done
        done += answer * len(lines)  # 0: another did it meanwhile, or the answer to the first of two was lost
        await asyncio.sleep(PAUSE_SECONDS)


async def _fold(reads: Reads, lines: list[Line]) -> int:
    """1 for done, 0 for changed meanwhile, or _SOMEBODY_READS."""
    fold = Fold(line.entry for line in lines)
    sums = (
        [text for key, nanos in fold.accounts.items() if nanos for text in (key, str(nanos))],
        [
            part
            for day, fields in fold.days.items()
            for part in (day, [text for field, number in fields.items() if number for text in (field, str(number))])
        ],
    )
    first, last = lines[0].place, lines[-1].place
    millis, _, number = last.partition(b"-")
    answer = await reads.call(
        *("EVAL", _SOURCE, 3, keys.LEDGER, keys.TRIMMED, keys.READING),
        *(keys.COMMITTED, keys.TRIMMED_ACCOUNT, keys.TRIMMED_SUMS),
        *(first, last, b"%s-%d" % (millis, int(number) + 1), len(lines), pack(sums)),
        seconds=LONGEST_SECONDS,
    )
    if answer not in (1, 0, _SOMEBODY_READS):
        raise StoreRefused(f"the ledger cannot be trimmed: {answer!r}")
    return int(answer)
