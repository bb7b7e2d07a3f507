"""Counting tokens where nobody said them: on a thread of the worker's own, never on the event loop."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from proxy.metering import Reading, Uncounted, exact_prompt_tokens
from proxy.server.tasks import Tasks

log = logging.getLogger("taximeter")

MOST_WAITING = 64 * 1024 * 1024
"""Bytes of requests that may wait to be counted. Whoever comes then is counted roughly, at once."""


class Counting:
    """Owner of every count under way.

    Invariant: each one started calls its `use` exactly once, on the event loop, with a reading: an exact one, or a
    rough one if there is too much to count, no time left, or counting fails.
    """

    def __init__(self, most_waiting: int = MOST_WAITING) -> None:
        self._most_waiting = most_waiting
        self._waiting = 0
        self._tasks = Tasks()
        # One thread: counting takes turns, and relaying keeps the other cores. It starts with the first count.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="counting")

    def start(self, uncounted: Uncounted, model: str | None, use: Callable[[Reading], None]) -> asyncio.Task[None]:
        """The task may be waited for; it goes on whatever becomes of who waits."""
        return self._tasks.start(self._count(uncounted, model, use), name="counting")

    async def prompt_tokens(self, endpoint: str, body: bytes, model: str | None) -> int | None:
        """A request's prompt, counted as its model counts. None: there is too much to count, or it cannot be."""
        if not body or self._waiting + len(body) > self._most_waiting:
            return None
        self._waiting += len(body)
        try:
            work = partial(exact_prompt_tokens, endpoint, body, model)
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except Exception:  # the rough count still stands
            log.exception("internal fault in counting a prompt: it stays as it was estimated")
            return None
        finally:
            self._waiting -= len(body)

    async def close(self, seconds: float) -> None:
        """Wait for what is under way; after `seconds` the rest is counted roughly."""
        await self._tasks.drain(seconds)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _count(self, uncounted: Uncounted, model: str | None, use: Callable[[Reading], None]) -> None:
        if self._waiting + uncounted.size > self._most_waiting:
            use(uncounted.roughly())
            return
        self._waiting += uncounted.size
        try:
            reading = await asyncio.get_running_loop().run_in_executor(self._thread, uncounted.count, model)
        except asyncio.CancelledError:
            reading = uncounted.roughly()  # the worker ends: what is known now is what will be charged
        except Exception:  # whatever breaks in counting: the money has to move
            log.exception("internal fault in counting: it is done roughly")
            reading = uncounted.roughly()
        finally:
            self._waiting -= uncounted.size
        use(reading)
