"""A reading connection for a test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from proxy.store.address import Address
from proxy.store.reads import Reads


@asynccontextmanager
async def open_reads(url: str) -> AsyncIterator[Reads]:
    reads = Reads(Address(url), 5)
    try:
        yield reads
    finally:
        await reads.close()
