"""The sweeper: whose heart has stopped, is swept. Its holds become presumed entries, on whatever host this runs.

A writer is dead when its beat has stood still for 45 s of this process's own monotonic clock, looked at all the time.
Who could not look (the store was away, this process was stopped) begins anew: then writers could not beat either.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from proxy.store import Sweeping

DEAD_SECONDS = 45.0
LOOK_SECONDS = 5.0
LONGEST_GAP_SECONDS = 15.0
"""Between two looks. More than a beat (10 s): a longer one says nothing of the writers."""
HOST_LOST = "host_lost"
NO_END_SEEN = "no_end_seen"

log = logging.getLogger("taximeter")


@dataclass(slots=True)
class _Seen:
    beat: str
    since: float


class Sweeper:
    """A job, see proxy.jobs."""

    name = "sweeper"
    every_seconds = LOOK_SECONDS

    def __init__(
        self,
        sweeping: Sweeping,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`monotonic` says how long a beat has stood still, `clock` which parked requests are due."""
        self._sweeping = sweeping
        self._monotonic = monotonic
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._looked = float("-inf")

    async def run(self) -> None:
        """Look once, and sweep who has been dead for long enough. Raises StoreError."""
        for writer, beat in (await self._dead()).items():
            if count := await self._sweeping.sweep(writer, beat, HOST_LOST):
                log.warning("%s is dead: %d requests that it had under way are presumed", writer, count)
        if count := await self._sweeping.sweep_parked(int(self._clock()), NO_END_SEEN):
            log.warning("nobody asked for the end of %d background responses: their cost is presumed", count)

    async def _dead(self) -> dict[str, str]:
        beats = await self._sweeping.beats()
        now = self._monotonic()
        if now - self._looked > LONGEST_GAP_SECONDS:
            self._seen.clear()
        self._looked = now
        for writer, beat in beats.items():
            seen = self._seen.get(writer)
            if seen is None or seen.beat != beat:
                self._seen[writer] = _Seen(beat, now)
        self._seen = {writer: self._seen[writer] for writer in beats}
        return {writer: seen.beat for writer, seen in self._seen.items() if now - seen.since >= DEAD_SECONDS}
