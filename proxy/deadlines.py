"""Deadlines: one timer for everything that must not take for ever, instead of a timer for each byte that comes."""

import asyncio
from typing import Protocol

TICK_SECONDS = 0.25
"""By so much a deadline may be missed: small beside what is timed here, seconds to minutes."""
NEVER = float("inf")


class Watched(Protocol):
    """`deadline` is a time of the loop's clock; it may be changed at any time."""

    deadline: float

    def expire(self) -> None:
        """The deadline has passed. Called again at each tick until it is moved, or nobody watches any more."""


class Deadlines:
    """Looks at everything watched once in a tick. Costs nothing where nothing is watched."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watched: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None
        self.now = loop.time()
        """The time of the last tick: near enough for what is written with each byte that comes."""

    def watch(self, watched: Watched) -> None:
        self._watched.add(watched)
        if self._timer is None:
            self.now = self._loop.time()
            self._timer = self._loop.call_later(TICK_SECONDS, self._look)

    def forget(self, watched: Watched) -> None:
        self._watched.discard(watched)

    def close(self) -> None:
        self._watched.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        now = self.now = self._loop.time()
        late = [watched for watched in self._watched if watched.deadline <= now]
        if self._watched:
            self._timer = self._loop.call_later(TICK_SECONDS, self._look)
        for watched in late:
            watched.expire()
