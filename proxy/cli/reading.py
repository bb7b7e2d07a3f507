"""Open the store for the length of one command: the one that is configured, or the embedded one.

An embedded store that `serve` runs is attached to and left running; else it is started for the call.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from proxy.config import Config
from proxy.store import Store, embedded_store

T = TypeVar("T")
_WRITER = "command"  # one name for all commands, at the same time too: they hold and settle nothing
_TIMEOUT = 10.0  # seconds an answer may take: a person waits, no request does


def with_store(config: Config, work: Callable[[Store], Awaitable[T]]) -> T:
    """Do some work with the store. Raises StoreAway or StoreRefused when it cannot be used."""
    # What the store's rooms would log to an operator is raised here, and told in one line.
    logging.getLogger("proxy").addHandler(logging.NullHandler())
    with contextlib.ExitStack() as stack:
        url = config.redis_url or stack.enter_context(embedded_store(config.data_dir))
        return asyncio.run(_opened(url, work))


async def _opened(url: str, work: Callable[[Store], Awaitable[T]]) -> T:
    async with await Store.open(url, writer=_WRITER, timeout=_TIMEOUT) as store:
        return await work(store)
