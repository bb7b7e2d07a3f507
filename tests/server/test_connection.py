"""Clients of every kind: what comes before, between and instead of requests, and what they get for it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from proxy.deadlines import Deadlines
from proxy.http1 import SeenHeads
from proxy.server import connection as timings
from proxy.server.connection import MAX_WAITING, ClientConnection
from proxy.server.replies import Refused, bad_path
from proxy.server.request import Request
from tests.http1.reading import Case, cases

POST = b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"


class House:
    """Answers each request with what came in it; `/refuse` is refused, `/wait` waits, `/stream` echoes as it comes."""

    def __init__(self) -> None:
        self.deadlines = Deadlines(asyncio.get_running_loop())
        self.heads = SeenHeads()
        self.is_draining = False
        self.bodies: list[bytes] = []
        self.malformed = 0
        self.connections: set[ClientConnection] = set()
        self.go_on = asyncio.Event()

    def came(self, connection: ClientConnection) -> None:
        self.connections.add(connection)

    def left(self, connection: ClientConnection) -> None:
        self.connections.discard(connection)

    def refuse(self, request: Request | None, refused: Refused) -> bytes:
        self.malformed += 1
        return refused.last_reply("entry", with_body=request is None or request.head.method != "HEAD")

    def serve_at_once(self, request: Request) -> bool:
        return False

    async def serve(self, request: Request) -> None:
        path = request.head.target
        if path == "/refuse":
            request.refuse(bad_path(), "entry")
            return
        if path == "/stream":
            request.serving = Echo(request)
            request.start(200, b"OK", [], framed=False)
            request.stream()
            return
        if path == "/wait":
            await self.go_on.wait()
        try:
            body = await request.read(1000)
        except Refused as refused:
            request.refuse(refused, "entry")
            return
        self.bodies.append(body)
        request.answer(200, b"OK", [b"X-Path: " + path.encode()], body)


class Echo:
    def __init__(self, request: Request) -> None:
        self.request = request
        self.gone = False

    def client_left(self) -> None:
        self.gone = True

    def client_full(self) -> None:
        self.request.hold()

    def client_ready(self) -> None:
        self.request.stream()

    def client_sent(self, payload: bytes) -> None:
        self.request.write(payload)

    def client_sent_all(self, trailers: list[bytes]) -> None:
        self.request.serving = None
        self.request.end(trailers)


@asynccontextmanager
async def house() -> AsyncIterator[tuple[House, int]]:
    loop = asyncio.get_running_loop()
    home = House()
    server = await loop.create_server(lambda: cast("asyncio.Protocol", ClientConnection(home, loop)), "127.0.0.1", 0)
    try:
        yield home, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in tuple(home.connections):
            connection.abort()
        home.deadlines.close()
        await asyncio.sleep(0)


@asynccontextmanager
async def client(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(10):
            yield reader, writer
    finally:
        writer.close()


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes, bytes]:
    """(status, head, body) of the next reply, by its length or in chunks."""
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ")[1])
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return status, head, await reader.readexactly(int(line.split(b":")[1]))
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")
    return status, head, body


async def test_requests_one_after_the_other_on_one_connection() -> None:
    async with house() as (home, port), client(port) as (reader, writer):
        for _ in range(3):
            writer.write(POST)
            assert (await answer(reader))[2] == b"abc"
    assert home.bodies == [b"abc"] * 3


async def test_requests_that_follow_before_the_reply_are_answered_in_order() -> None:
    async with house() as (_, port), client(port) as (reader, writer):
        writer.write(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(200)))
        for number in range(200):
            _, head, _ = await answer(reader)
            assert b"X-Path: /%d\r\n" % number in head


async def test_a_request_byte_by_byte() -> None:
    chunked = b"POST /v1/y HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n1\r\nf\r\n0\r\n\r\n"
    async with house() as (home, port), client(port) as (reader, writer):
        for byte in POST + chunked:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        assert [(await answer(reader))[2] for _ in range(2)] == [b"abc", b"def"]
    assert home.bodies == [b"abc", b"def"]


async def test_many_following_requests_are_held_back() -> None:
    async with house() as (home, port), client(port) as (reader, writer):
        writer.write(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        following = b"GET /next HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 10_000 + b"\r\n\r\n"
        sender = asyncio.get_running_loop().create_task(send_all(writer, following * 2000))
        await asyncio.sleep(0.3)
        [connection] = home.connections
        assert len(connection._held) < MAX_WAITING + 300_000
        assert not sender.done()
        home.go_on.set()
        for _ in range(2001):
            assert (await answer(reader))[0] == 200
        await sender


async def send_all(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


async def test_told_to_go_on_when_the_body_is_wanted() -> None:
    head = b"POST /v1/x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    async with house() as (_, port), client(port) as (reader, writer):
        writer.write(head)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc")
        assert (await answer(reader))[2] == b"abc"
        writer.write(head + b"abc")  # who does not wait needs not be told
        assert (await answer(reader))[:1] == (200,)


async def test_not_told_to_go_on_when_it_is_refused() -> None:
    async with house() as (_, port), client(port) as (reader, writer):
        writer.write(b"POST /refuse HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        status, head, _ = await answer(reader)
        assert (status, b"\r\nConnection: close\r\n" in head) == (400, True)
        assert await reader.read() == b""


async def test_a_refusal_is_read_though_the_body_is_still_on_its_way() -> None:
    async with house() as (_, port), client(port) as (reader, writer):
        writer.write(b"POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n\r\n")
        sender = asyncio.get_running_loop().create_task(send_all(writer, bytes(5_000_000)))
        await asyncio.sleep(0.1)
        assert (await answer(reader))[0] == 400
        await sender


async def test_a_body_that_is_too_large() -> None:
    async with house() as (home, port):
        for head in (b"Content-Length: 1001", b"Transfer-Encoding: chunked"):
            async with client(port) as (reader, writer):
                writer.write(b"POST /v1/x HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n3e9\r\n" + bytes(1001) + b"\r\n")
                status, _, body = await answer(reader)
                assert (status, json.loads(body)["error"]["code"]) == (413, "body_too_large")
    assert home.bodies == []


async def test_head_is_answered_without_a_body() -> None:
    async with house() as (_, port), client(port) as (reader, writer):
        writer.write(b"HEAD /refuse HTTP/1.1\r\nHost: x\r\n\r\n" + POST)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert (await answer(reader))[2] == b"abc"


async def test_http_1_0_ends_with_its_connection() -> None:
    async with house() as (_, port):
        async with client(port) as (reader, writer):
            writer.write(b"GET /v1/x HTTP/1.0\r\n\r\n")
            reply = await reader.read()
            assert b"\r\nConnection: close\r\n" in reply
        async with client(port) as (reader, writer):
            writer.write(b"POST /stream HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc")
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            assert (b"chunked" in head, body) == (False, b"abc")


async def test_a_streamed_body_and_its_trailers_go_on_as_they_come() -> None:
    async with house() as (_, port), client(port) as (reader, writer):
        writer.write(b"POST /stream HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        assert b"chunked" in await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(8) == b"3\r\nabc\r\n"
        writer.write(b"2\r\nde\r\n0\r\nX-Sum: 1\r\n\r\n")
        assert await reader.readexactly(len(b"2\r\nde\r\n0\r\nX-Sum: 1\r\n\r\n")) == b"2\r\nde\r\n0\r\nX-Sum: 1\r\n\r\n"


async def test_a_chunk_that_is_none_ends_what_was_under_way() -> None:
    async with house() as (home, port), client(port) as (reader, writer):
        writer.write(b"POST /v1/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nxyz\r\n")
        status, _, body = await answer(reader)
        assert (status, json.loads(body)["error"]["code"]) == (400, "bad_http")
        assert await reader.read() == b""
    assert home.bodies == []


@pytest.mark.parametrize("case", cases("refused_requests.toml")[::3], ids=lambda case: case.name)
async def test_what_is_refused_gets_the_apis_error_and_the_connection_ends(case: Case) -> None:
    async with house() as (home, port), client(port) as (reader, writer):
        writer.write(case.raw)
        replies = b""
        while (status := (reply := await answer(reader))[0]) == 200:  # a proper request may stand before it
            replies += reply[1]
        assert status == 400
        assert json.loads(reply[2])["error"]["type"] == "invalid_request_error"
        assert await reader.read() == b""
    assert home.malformed == 1


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", None),
        (b"GET /v1/x HT", 408),
        (b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na", 408),
    ],
    ids=["nothing", "half a head", "half a body"],
)
async def test_who_is_too_slow_is_let_go(sent: bytes, status: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IDLE_SECONDS", "HEAD_SECONDS", "BODY_SECONDS", "LINGER_SECONDS"):
        monkeypatch.setattr(timings, name, 0.1)
    async with house() as (home, port), client(port) as (reader, writer):
        writer.write(sent)
        if status is not None:
            assert (await answer(reader))[0] == status
        assert await reader.read() == b""
    assert home.bodies == []


async def test_who_reads_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timings, "STALL_SECONDS", 0.1)
    async with house() as (home, port), client(port) as (_, writer):
        writer.write(b"POST /stream HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
        writer.write(bytes(30_000_000))
        async with asyncio.timeout(8):
            while not home.connections:
                await asyncio.sleep(0.01)
            while home.connections:
                await asyncio.sleep(0.05)


async def test_in_the_end_each_reply_closes_its_connection() -> None:
    async with house() as (home, port), client(port) as (reader, writer):
        writer.write(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(0.05)
        home.is_draining = True
        home.go_on.set()
        _, head, _ = await answer(reader)
        assert b"\r\nConnection: close\r\n" in head
        assert await reader.read() == b""
