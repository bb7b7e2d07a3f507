"""Requests that were sent before the store had their holds: what it does not have soon, the disk must have."""

import asyncio
from collections import deque
from collections.abc import Sequence

from proxy.journal import Journal
from proxy.store.operations import Hold

KEPT_WITHIN = 0.025  # seconds for the store to have what nobody waited for, before the disk is to
CLOCK_STEP = 0.001  # of the event loop's clock


class Unkept:
    """Those of one writer. As a rule the store has each in time, and the disk is left alone."""

    def __init__(self, journal: Journal, loop: asyncio.AbstractEventLoop) -> None:
        self._journal = journal
        self._loop = loop
        self._sent: deque[tuple[float, Sequence[Hold]]] = deque()  # and when, by the loop's clock

    def add(self, holds: Sequence[Hold]) -> None:
        """These are sent now, and are in the kernel."""
        self._sent.append((self._loop.time(), holds))
        if len(self._sent) == 1:
            self._loop.call_later(KEPT_WITHIN, self._look)

    def _look(self) -> None:
        """Who was sent a moment ago still has time: at each look there is somebody whose hold is under way."""
        sent, now = self._sent, self._loop.time()
        while sent:
            since, holds = sent[0]
            if not all(hold.is_kept for hold in holds):
                left = since + KEPT_WITHIN - now
                if left > CLOCK_STEP:
                    self._loop.call_later(left, self._look)
                    return
                self._journal.sync_soon()
            sent.popleft()
