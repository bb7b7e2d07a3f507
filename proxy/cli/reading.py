"""Open the store for the length of one command: the one that is configured, or the embedded one.

An embedded store that `serve` runs is attached to and left running; else it is started for the call.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from proxy.config import Config
from proxy.store import Store, embedded_store
from proxy.store.address import Address
from proxy.store.reads import Reads

T = TypeVar("T")
_WRITER = "command"  # one name for all commands, at the same time too: they hold and settle nothing
_TIMEOUT = 10.0  # seconds an answer may take: a person waits, no request does


def with_store(config: Config, work: Callable[[Store], Awaitable[T]], *, directory: Path | None = None) -> T:
    """Do some work with the store. Raises StoreAway or StoreRefused when it cannot be used.

    `directory`: where a proxy remembers which store it knew, for work that concerns that.
    """
    return _run(config, lambda url: _opened(url, work, directory))


def with_reads(config: Config, work: Callable[[Reads], Awaitable[T]]) -> T:
    """The same for what needs no ordered connection: the ledger."""
    return _run(config, lambda url: _reading(url, work))


def _run(config: Config, work: Callable[[str], Coroutine[Any, Any, T]]) -> T:
    # What the store's rooms would log to an operator is raised here, and told in one line.
    logging.getLogger("proxy").addHandler(logging.NullHandler())
    with contextlib.ExitStack() as stack:
        url = config.redis_url or stack.enter_context(embedded_store(config.data_dir))
        return asyncio.run(work(url))


async def _opened(url: str, work: Callable[[Store], Awaitable[T]], directory: Path | None) -> T:
    async with await Store.open(url, writer=_WRITER, timeout=_TIMEOUT, directory=directory) as store:
        return await work(store)


async def _reading(url: str, work: Callable[[Reads], Awaitable[T]]) -> T:
    reads = Reads(Address(url), _TIMEOUT)
    try:
        return await work(reads)
    finally:
        await reads.close()
