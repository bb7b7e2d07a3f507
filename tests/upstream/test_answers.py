"""Answers of every kind, proper and not: each request gets its own answer or none, never a part of another's."""

import asyncio
import socket
import struct

import pytest

from proxy.errors import UpstreamTooSlow, UpstreamUnreachable
from tests.http1.reading import Case, cases
from tests.upstream.talking import OK, ask, read_one, says, send, serving

BAD = cases("refused_responses.toml")


async def test_an_answer_by_length_and_its_connection_again() -> None:
    async with serving(says(OK)) as (server, upstream):
        for _ in range(3):
            heard = await ask(upstream)
            assert (heard.status, heard.body, heard.trailers) == (200, b"hi", [])
    assert server.connections == 1


async def test_a_request_as_it_is_sent() -> None:
    heads = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await read_one(reader))
        writer.write(OK)

    async with serving(serve) as (_, upstream):
        heard, _ = send(upstream)
        await heard.over.wait()
        port = upstream.shown.rpartition(":")[2].encode()
    assert heads == [b"POST /v1/x?a=b HTTP/1.1\r\nHost: 127.0.0.1:" + port + b"\r\nContent-Length: 2\r\n\r\n"]


async def test_chunks_pass_as_they_came_and_trailers_at_the_end() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with serving(says(head + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-Sum: 1\r\n\r\n")) as (server, upstream):
        heard = await ask(upstream)
        assert (heard.body, heard.trailers) == (b"abcde", [b"X-Sum: 1"])
        assert (await ask(upstream)).body == b"abcde"
    assert server.connections == 1


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 700\r\n\r\n"),
        ("POST", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 700\r\n\r\n"),
        ("POST", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ],
)
async def test_answers_without_a_body(method: str, answer: bytes) -> None:
    async with serving(says(answer)) as (server, upstream):
        for _ in range(2):
            heard = await ask(upstream, method)
            assert (heard.body, heard.error) == (b"", None)
    assert server.connections == 1


async def test_interim_answers_stay_here() -> None:
    async with serving(says(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK)) as (
        _,
        upstream,
    ):
        heard = await ask(upstream)
    assert (heard.status, heard.body) == (200, b"hi")


async def test_interim_answers_without_end() -> None:
    async with serving(says(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100)) as (_, upstream):
        heard = await ask(upstream)
    assert isinstance(heard.error, UpstreamUnreachable)
    assert "no HTTP answer" in str(heard.error)


@pytest.mark.parametrize("how", ["end", "reset"])
async def test_a_body_up_to_the_end_of_the_connection(how: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_one(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nabc")
        await asyncio.sleep(0.05)
        if how == "reset":
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async with serving(serve) as (_, upstream):
        heard = await ask(upstream)
    assert heard.body == b"abc"
    assert (heard.error is None) == (how == "end")


@pytest.mark.parametrize("after", [OK, b"x", b"\r\n", b"HTTP/1.1 200 OK\r\n"], ids=["answer", "byte", "line", "head"])
async def test_what_comes_after_an_answer_reaches_nobody(after: bytes) -> None:
    """Two answers to one request, or bytes behind it: the next request goes elsewhere, and gets its own answer."""
    first = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst"
    async with serving(says(first + after)) as (server, upstream):
        for _ in range(3):
            heard = await ask(upstream)
            assert (heard.status, heard.body) == (200, b"first")
    assert server.connections == 3


async def test_what_comes_later_on_an_idle_connection_reaches_nobody() -> None:
    told, go_on = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_one(reader)
        writer.write(OK)
        await go_on.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
        told.set()
        await read_one(reader)

    async with serving(serve) as (server, upstream):
        assert (await ask(upstream)).body == b"hi"
        go_on.set()
        await told.wait()
        await asyncio.sleep(0.05)
        assert (await ask(upstream)).body == b"hi"
    assert server.connections == 2


async def test_a_connection_that_is_closed_by_announcement_is_not_used_again() -> None:
    async with serving(says(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi")) as (
        server,
        upstream,
    ):
        for _ in range(2):
            assert (await ask(upstream)).body == b"hi"
    assert server.connections == 2


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.name)
async def test_an_answer_that_could_be_read_in_two_ways_is_refused(case: Case) -> None:
    async with serving(says(case.raw)) as (server, upstream):
        heard = await ask(upstream, "GET")
        assert isinstance(heard.error, UpstreamUnreachable), heard.body
        assert heard.error.sent
        await ask(upstream, "GET")
    assert server.connections == 2


async def test_silence_before_and_in_an_answer() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_one(reader)
        if head.startswith(b"GET"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")
        await asyncio.sleep(30)

    async with serving(serve, silence=0.3) as (_, upstream):
        for method, words in (("POST", "did not answer in time"), ("GET", "went silent")):
            heard = await ask(upstream, method)
            assert isinstance(heard.error, UpstreamTooSlow)
            assert words in str(heard.error)


async def test_pieces_that_come_put_the_deadline_off() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_one(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(15):
            writer.write(b"1\r\na\r\n")
            await asyncio.sleep(0.1)
        await asyncio.sleep(30)

    async with serving(serve, silence=0.5) as (_, upstream):
        heard = await ask(upstream)
        assert heard.body == b"a" * 15
        assert isinstance(heard.error, UpstreamTooSlow)
        assert "went silent" in str(heard.error)


async def test_who_can_take_no_more_holds_the_upstream_back() -> None:
    written = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await read_one(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n")
        for _ in range(1024):
            writer.write(bytes(65536))
            await writer.drain()
            written += 65536

    async with serving(serve) as (_, upstream):
        heard, attempt = send(upstream)
        await heard.began.wait()
        attempt.pause()
        await asyncio.sleep(0.3)
        stopped = written
        await asyncio.sleep(0.3)
        assert written == stopped < 67108864
        attempt.resume()
        await heard.over.wait()
    assert len(heard.body) == 67108864


async def test_who_leaves_closes_the_connection() -> None:
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_one(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        try:
            await reader.read(1)
        finally:
            gone.set()

    async with serving(serve) as (_, upstream):
        heard, attempt = send(upstream)
        await heard.began.wait()
        attempt.cancel()
        async with asyncio.timeout(2):
            await gone.wait()
        assert not heard.over.is_set()


async def test_a_large_body_goes_out_whole_and_a_streamed_one_waits_when_it_must() -> None:
    sizes = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        sizes.append(len(await reader.readexactly(20_000_000)))
        writer.write(OK)
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.3)
        while not (await reader.read(1 << 20)).endswith(b"0\r\n\r\n"):
            pass
        writer.write(OK)

    async with serving(serve) as (_, upstream):
        assert (await ask(upstream, body=bytes(20_000_000))).body == b"hi"
        heard, attempt = send(upstream, body=None)
        while attempt.connection is None:
            await asyncio.sleep(0.01)
        heard.ready.set()
        sent = 0
        while heard.ready.is_set():
            attempt.send(b"10000\r\n" + bytes(65536) + b"\r\n")
            sent += 1
            assert sent < 1000
        async with asyncio.timeout(5):
            await heard.ready.wait()
        attempt.send(b"0\r\n\r\n")
        attempt.finish()
        await heard.over.wait()
        assert heard.body == b"hi"
    assert sizes == [20_000_000]


async def test_an_answer_before_the_body_is_whole_costs_the_connection() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    async with serving(serve) as (server, upstream):
        heard, _ = send(upstream, body=None)
        await heard.over.wait()
        assert heard.status == 413
        heard, _ = send(upstream, body=None)
        await heard.over.wait()
    assert server.connections == 2


@pytest.mark.parametrize("asked", [True, False])
async def test_an_upgrade_is_a_tunnel_only_for_who_asked(asked: bool) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_one(reader)
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"
        )
        writer.write(await reader.readexactly(4))

    async with serving(serve) as (_, upstream):
        heard, attempt = send(upstream, "GET", b"", upgrade=asked)
        if asked:
            await heard.began.wait()
            attempt.send(b"ping")
        async with asyncio.timeout(5):
            await heard.over.wait()
    if asked:
        assert (heard.status, heard.body) == (101, b"HTTP/1.1 200 OK\r\n\r\nping")
    else:
        assert isinstance(heard.error, UpstreamUnreachable)
