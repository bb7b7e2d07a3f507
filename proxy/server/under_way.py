"""What a worker has under way: whose it is, kept alive until its end, and waited for when the worker ends."""

import asyncio
from contextlib import suppress
from typing import Protocol

from proxy.budgets import Owner
from proxy.server.open_requests import OpenRequests


class Passing(Protocol):
    """A request that may pass or is on its way."""

    def cut(self) -> None:
        """The worker ends."""


class UnderWay:
    """Everything that has entered (`open`), and from some moment on is on its way, until it is over."""

    def __init__(self) -> None:
        self.open = OpenRequests()
        self._passing: dict[Passing, Owner] = {}
        self._idle = asyncio.Event()

    def start(self, passing: Passing, owner: Owner) -> None:
        """It has entered, and leaves when it is over."""
        self._passing[passing] = owner

    def over(self, passing: Passing) -> None:
        self.open.leave(self._passing.pop(passing))
        if not self._passing:
            self._idle.set()

    async def drain(self, seconds: float) -> int:
        """Wait for everything under way, and cut off what is left after `seconds`; how many that were."""
        if self._passing:
            self._idle.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._idle.wait()
        late = tuple(self._passing)
        for each in late:
            each.cut()
        return len(late)
