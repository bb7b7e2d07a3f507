"""WebSockets pass as they are, unread; a refusal of one is an ordinary answer."""

import asyncio
import json

import pytest

from proxy.cli.small_http import HttpRequest
from tests.fakes import upstreams as fakes
from tests.system.client import client
from tests.system.harness import Start, Taximeter, chat
from tests.system.test_bad_input import BUDGET, MINI, USED_MUCH, nothing_held

ASKING = (
    b"GET /v1/realtime?model=gpt-realtime HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nAuthorization: Bearer sk-mine\r\n"
)


async def switches(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3p\r\n\r\n"
    )


class EchoUpstream(fakes.FakeUpstream):
    """Switches to a WebSocket that says back what it hears, and ends when it hears `end`."""

    def __init__(self) -> None:
        super().__init__(switches)
        self.gone = asyncio.Event()

    async def answer(self, request: HttpRequest, writer: asyncio.StreamWriter) -> None:
        await super().answer(request, writer)
        while (data := await request.rest.read(65536)) and data != b"end":
            writer.write(data)
        self.gone.set()
        writer.close()


async def connected(meter: Taximeter, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = meter.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request + b"\r\n")
    return reader, writer


async def test_bytes_go_both_ways_until_one_side_ends(start: Start) -> None:
    async with EchoUpstream() as upstream, start(upstream.url) as meter:
        async with asyncio.timeout(20):
            reader, writer = await connected(meter, ASKING)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
            assert b"\r\nSec-WebSocket-Accept: s3p\r\n" in head
            assert b"\r\nUpgrade: websocket\r\n" in head
            assert b"x-taximeter-entry: " in head
            large = bytes(range(256)) * 4096
            writer.write(large)
            assert await reader.readexactly(len(large)) == large
            writer.write(b"end")
            assert await reader.read() == b""
            writer.close()

            reader, writer = await connected(meter, ASKING)
            await reader.readuntil(b"\r\n\r\n")
            upstream.gone.clear()
            writer.close()
            await upstream.gone.wait()
        scrape = await meter.scrape_until(lambda s: s.value("taximeter_requests_total", status="101") == 2)
    assert scrape.value("taximeter_requests_total", status="101", endpoint="realtime") == 2
    [first, _] = upstream.received
    assert (first.headers["connection"], first.headers["upgrade"]) == ("Upgrade", "websocket")
    assert first.headers["sec-websocket-version"] == "13"


@pytest.mark.parametrize("wish", [b"h2c", b"websocket, h2c", b"tls/1.2"])
async def test_another_protocol_is_not_asked_for(start: Start, wish: bytes) -> None:
    async with (
        fakes.FakeUpstream(fakes.says(fakes.response("200 OK", b"{}"))) as upstream,
        start(upstream.url) as meter,
        asyncio.timeout(20),
    ):
        reader, writer = await connected(meter, ASKING.replace(b"websocket\r\n", wish + b"\r\n", 1))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.close()
    assert "upgrade" not in upstream.received[0].headers


async def test_refused_it_is_a_plain_answer_and_the_connection_goes_on(start: Start) -> None:
    async with (
        fakes.FakeUpstream(fakes.says(fakes.response("200 OK", USED_MUCH))) as upstream,
        start(upstream.url, budget=[BUDGET | {"limit_usd": "0.01"}]) as meter,
        client() as http,
        asyncio.timeout(30),
    ):
        assert (await http.chat(meter.base_url, chat(MINI, max_tokens=10))).status == 200
        await nothing_held(meter)
        reader, writer = await connected(meter, ASKING)
        for _ in range(2):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 429 ")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
            assert json.loads(await reader.readexactly(length))["error"]["code"] == "budget_exceeded"
            writer.write(ASKING + b"\r\n")
        writer.close()
        # A taximeter key hides among the protocols: it must not leave, and cannot be taken out.
        protocols = b"Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.tm-secret\r\n"
        reader, writer = await connected(meter, ASKING + protocols)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 403 ")
        writer.close()
    assert len(upstream.received) == 1
