"""The wire in its steady state: answers in pieces, errors, and a server that says what nobody asked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from proxy.errors import StoreAway, StoreError, StoreRefused
from proxy.store.address import Address
from proxy.store.channel import Channel
from proxy.store.wire import CommandFailed, Wire
from tests.store.conftest import eventually
from tests.store.servers import Server


class Fake:
    """A server that has let us in, and says then what the test wants."""

    def __init__(self) -> None:
        self.answers: list[object] = []
        self.lost: list[StoreError] = []
        self.writer: asyncio.StreamWriter | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        await reader.readuntil(b"INFO\r\n")
        writer.write(b"$18\r\nredis_version:7.4\n\r\n")
        await reader.read(-1)
        writer.close()

    async def say(self, *pieces: bytes) -> None:
        assert self.writer is not None
        for piece in pieces:
            self.writer.write(piece)
            await asyncio.sleep(0.01)


@asynccontextmanager
async def talking() -> AsyncIterator[tuple[Fake, Wire, Channel]]:
    fake = Fake()
    listener = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    wire = await Wire.open(Address(f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}"), 2)
    channel = Channel(wire, fake.answers.append, fake.lost.append)
    try:
        yield fake, wire, channel
    finally:
        channel.detach()
        await wire.close()
        listener.close()


async def test_an_answer_that_comes_in_pieces() -> None:
    async with talking() as (fake, _, channel):
        channel.send(b"*1\r\n$4\r\nPING\r\n")
        await fake.say(b"*3\r\n:0\r\n$3\r\nab", b"c\r\n*1\r\n$1\r", b"\n7\r\n")
        assert fake.answers == [[0, b"abc", [b"7"]]]
        assert fake.lost == []


async def test_an_error_is_an_answer() -> None:
    async with talking() as (fake, _, channel):
        for said in (b"-NOSCRIPT No matching script\r\n", b"-LOADING it is\r\n", b"-ERR no such\r\n"):
            channel.send(b"*1\r\n$4\r\nPING\r\n")
            await fake.say(said)
        one, two, three = fake.answers
        assert isinstance(one, CommandFailed)
        assert one.code == "NOSCRIPT"
        assert isinstance(two, StoreAway)
        assert isinstance(three, CommandFailed)
        assert (fake.lost, three.code) == ([], "ERR")


@pytest.mark.parametrize("said", [b"+OK\r\n", b"+OK\r\n+OK\r\n"])
async def test_what_nobody_asked_ends_it(said: bytes) -> None:
    async with talking() as (fake, _, channel):
        if said.count(b"OK") > 1:
            channel.send(b"*1\r\n$4\r\nPING\r\n")
        await fake.say(said)
        [error] = fake.lost
        assert isinstance(error, StoreAway)
        assert "nobody asked" in str(error)
        assert fake.answers == []


async def test_what_is_no_protocol_ends_it() -> None:
    async with talking() as (fake, _, channel):
        channel.send(b"*1\r\n$4\r\nPING\r\n")
        await fake.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        [error] = fake.lost
        assert isinstance(error, StoreRefused)


async def test_a_connection_that_is_closed_is_noticed_at_once_and_the_wire_closes() -> None:
    async with talking() as (fake, wire, _):
        assert fake.writer is not None
        fake.writer.close()
        await eventually(lambda: bool(fake.lost))
        assert isinstance(fake.lost[0], StoreAway)
        async with asyncio.timeout(0.5):
            await wire.close()
        with pytest.raises(StoreAway):
            Channel(wire, fake.answers.append, fake.lost.append)


async def test_the_wire_is_as_it_was_when_it_is_given_back(server: Server) -> None:
    wire = await Wire.open(Address(server.url), 2)
    answers: list[object] = []
    channel = Channel(wire, answers.append, answers.append)
    channel.send(b"*2\r\n$4\r\nECHO\r\n$1\r\na\r\n")
    await eventually(lambda: bool(answers))
    channel.detach()
    assert await wire.call("ECHO", "b") == b"b"
    assert answers == [b"a"]
    async with asyncio.timeout(0.5):
        await wire.close()
