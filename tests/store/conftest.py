"""Servers for the store's tests: one of each kind for all tests, emptied for each, and own ones to break."""

import asyncio
import contextlib
import logging
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import redis

from proxy.journal import Journal
from proxy.store import Store
from tests.store.servers import KINDS, Server, binary_of

OpenStore = Callable[..., "contextlib.AbstractAsyncContextManager[Store]"]


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A new directory whose path leaves room for a socket: pytest's own may be too long."""
    with tempfile.TemporaryDirectory(prefix="tm-") as path:
        yield Path(path)


@pytest.fixture(scope="session", params=KINDS)
def shared_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    binary_of(request.param)
    with tempfile.TemporaryDirectory(prefix="tm-") as path:
        server = Server(request.param, Path(path))
        server.start()
        yield server
        server.kill()


@pytest.fixture
def server(shared_server: Server) -> Server:
    """A server that is empty, and that others use too: do not break it."""
    with shared_server.client() as client:
        client.flushall()
        client.script_flush()
    return shared_server


@pytest.fixture
def raw(server: Server) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


@pytest.fixture(params=KINDS)
def own_server(request: pytest.FixtureRequest, short_path: Path) -> Iterator[Server]:
    """A server that this test may break."""
    server = Server(request.param, short_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def store(server: Server) -> AsyncIterator[Store]:
    opened = await Store.open(server.url, writer="w1", timeout=5)
    yield opened
    await opened.close(5)


@pytest.fixture
async def writer(own_server: Server, tmp_path: Path) -> AsyncIterator[Store]:
    """Has a journal, as whoever settles requests; its server may be broken."""
    journal = Journal.create(tmp_path / "journal", "w1")
    store = await Store.open(own_server.url, writer="w1", timeout=0.5, journal=journal, directory=tmp_path)
    yield store
    await store.close(0)


async def applied(store: Store) -> None:
    """Wait until the store has everything that was told to it."""
    async with asyncio.timeout(10):
        while len(store._connection.pending):
            await asyncio.sleep(0.001)


async def eventually(is_so: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not is_so():
            await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def _say_what_was_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="proxy.store")
