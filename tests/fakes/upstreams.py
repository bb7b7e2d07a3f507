"""Upstreams that misbehave, or that say exactly what they are told. Raw sockets: no server library corrects them."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress

from proxy.cli.small_http import HttpRequest, SmallHttpServer, http_chunk

Behaviour = Callable[[HttpRequest, asyncio.StreamWriter], Awaitable[None]]

CHUNK = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1795309418,"model":"gpt-4o-mini-2024-07-18",'
    b'"choices":[{"index":0,"delta":{"content":"So far and no further, "},"logprobs":null,"finish_reason":null}]}\n\n'
)
LAST_CHUNK = http_chunk(b"")
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nx-request-id: req_1\r\n\r\n"
)


class FakeUpstream(SmallHttpServer):
    """Does one thing with every request, and remembers what came."""

    def __init__(self, behaviour: Behaviour) -> None:
        super().__init__()
        self.behaviour = behaviour
        self.received: list[HttpRequest] = []

    async def answer(self, request: HttpRequest, writer: asyncio.StreamWriter) -> None:
        self.received.append(request)
        await self.behaviour(request, writer)


def says(raw: bytes) -> Behaviour:
    """The whole response, as it stands on the wire."""

    async def behave(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()

    return behave


def response(status: str, body: bytes, content_type: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\nx-request-id: req_1\r\n\r\n"
    return head.encode() + body


async def resets(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
    """Reads the request and resets the connection: not a byte of an answer."""
    _reset(writer)


async def breaks_off_stream(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
    """Three chunks of a stream, then the connection is gone: no end of the body."""
    writer.write(STREAM_HEAD + http_chunk(CHUNK) * 3)
    await writer.drain()
    await asyncio.sleep(0.1)
    _reset(writer)


async def breaks_off_whole(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
    """Half of a whole reply."""
    writer.write(response("200 OK", b'{"id": "chatcmpl-1", "model": "gpt-4o-mini-2024-07-18", "choices": []}')[:-20])
    await writer.drain()
    writer.close()


async def never_answers(_: HttpRequest, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


async def falls_silent(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
    """Begins a stream, and says nothing more."""
    writer.write(STREAM_HEAD + http_chunk(CHUNK) * 2)
    await writer.drain()
    await asyncio.sleep(3600)


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    # Lingering for zero seconds makes close() send RST instead of FIN.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class OncePerConnection(FakeUpstream):
    """Answers the first request of a connection as told; reads the second one, and closes without a word."""

    def __init__(self, behaviour: Behaviour) -> None:
        super().__init__(behaviour)
        self._seen: set[asyncio.StreamReader] = set()
        self.closed = 0

    async def answer(self, request: HttpRequest, writer: asyncio.StreamWriter) -> None:
        if request.rest in self._seen:
            self.closed += 1
            writer.close()
            return
        self._seen.add(request.rest)
        await super().answer(request, writer)


class ClosesWhenIdle(FakeUpstream):
    """Promises to keep the connection, and closes it after each answer: the next request meets it as it ends."""

    def __init__(self, behaviour: Behaviour) -> None:
        super().__init__(behaviour)
        self.closed = 0

    async def answer(self, request: HttpRequest, writer: asyncio.StreamWriter) -> None:
        await super().answer(request, writer)
        self.closed += 1
        writer.close()


class SteppedUpstream(SmallHttpServer):
    """A stream that goes on only when the test says so. `gone` is set when its client has left."""

    def __init__(self, chunk: bytes = CHUNK) -> None:
        super().__init__()
        self.chunk = chunk
        self.received: list[HttpRequest] = []
        self.steps: asyncio.Queue[bytes] = asyncio.Queue()
        self.gone = asyncio.Event()

    def step(self, payload: bytes | None = None) -> None:
        """Send one more chunk."""
        self.steps.put_nowait(http_chunk(self.chunk if payload is None else payload))

    def end(self) -> None:
        self.steps.put_nowait(http_chunk(b"data: [DONE]\n\n") + LAST_CHUNK)

    async def answer(self, request: HttpRequest, writer: asyncio.StreamWriter) -> None:
        self.received.append(request)
        writer.write(STREAM_HEAD)
        loop = asyncio.get_running_loop()
        left = loop.create_task(_left(request.rest))
        try:
            while True:
                step = loop.create_task(self.steps.get())
                await asyncio.wait((step, left), return_when=asyncio.FIRST_COMPLETED)
                if left.done():
                    step.cancel()
                    self.gone.set()
                    writer.close()
                    return
                writer.write(step.result())
                await writer.drain()
                if step.result().endswith(LAST_CHUNK):
                    return
        finally:
            left.cancel()
            await asyncio.wait((left,))  # the connection's next request is read behind it


async def _left(rest: asyncio.StreamReader) -> None:
    """Ends when the client has closed its side or reset the connection."""
    with suppress(ConnectionError):
        await rest.read(1)
