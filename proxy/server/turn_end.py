"""The end of a turn of the event loop: streams that flow are relayed then.

A turn brings pieces of many streams, and perhaps a request or the first piece of an answer, for which somebody waits.
Those are served where they come; who reads on already waits for them, and for nothing that a later turn brings.
"""

import asyncio
import logging
from typing import Protocol

log = logging.getLogger("taximeter")


class Flowing(Protocol):
    def catch_up(self) -> None:
        """Relay what has come."""


class TurnEnd:
    """One of each worker."""

    __slots__ = ("_behind", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._behind: list[Flowing] = []

    def owes(self, stream: Flowing) -> None:
        """It is called at the end of this turn, once for each time that this is said."""
        self._behind.append(stream)
        if len(self._behind) == 1:
            self._loop.call_soon(self.relay)

    def relay(self) -> None:
        """The turn ends."""
        behind, self._behind = self._behind, []
        for stream in behind:
            try:
                stream.catch_up()
            except Exception:  # the others wait for the same call
                log.exception("internal fault in relaying a stream")
