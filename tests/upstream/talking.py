"""A receiver that remembers, and servers on sockets that say exactly what they are told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from proxy.deadlines import Deadlines
from proxy.errors import UpstreamError
from proxy.http1 import ResponseHead
from proxy.upstream import Attempt, Upstream

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Heard:
    """What came of an attempt."""

    def __init__(self) -> None:
        self.head: ResponseHead | None = None
        self.body = b""
        self.framed: list[bytes | None] = []
        self.trailers: list[bytes] | None = None
        self.error: UpstreamError | None = None
        self.ready = asyncio.Event()
        self.over = asyncio.Event()
        self.began = asyncio.Event()

    @property
    def status(self) -> int:
        assert self.head is not None
        return self.head.status

    def answered(self, head: ResponseHead) -> None:
        self.head = head
        self.began.set()

    def came(self, payload: bytes, framed: bytes | None) -> None:
        self.body += payload
        self.framed.append(framed)

    def ended(self, trailers: list[bytes]) -> None:
        assert self.trailers is None
        self.trailers = trailers
        self.over.set()

    def failed(self, error: UpstreamError) -> None:
        assert self.error is None
        self.error = error
        self.over.set()

    def upstream_full(self) -> None:
        self.ready.clear()

    def upstream_ready(self) -> None:
        self.ready.set()


class Server:
    """Serves each connection with `serve`. Counts connections; `requests` are the heads that were read."""

    def __init__(self, serve: Serve) -> None:
        self.serve = serve
        self.connections = 0
        self.open = 0
        self.tasks: set[asyncio.Task[Any]] = set()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.connections += 1
        self.open += 1
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await self.serve(reader, writer)
        except asyncio.CancelledError:
            pass
        finally:
            self.open -= 1
            writer.close()
            self.tasks.discard(task)


@asynccontextmanager
async def serving(
    serve: Serve, *, host: str = "127.0.0.1", silence: float = 5.0, ca_file: Path | None = None, **tls: Any
) -> AsyncIterator[tuple[Server, Upstream]]:
    """A server, and an upstream that points to it."""
    server = Server(serve)
    listening = await asyncio.start_server(server.connected, host, 0, **tls)
    port = listening.sockets[0].getsockname()[1]
    scheme = "https" if tls else "http"
    name = "localhost" if tls else (f"[{host}]" if ":" in host else host)
    async with pointing_to(f"{scheme}://{name}:{port}/v1", silence=silence, ca_file=ca_file) as upstream:
        yield server, upstream
    listening.close()
    for task in tuple(server.tasks):
        task.cancel()
    await asyncio.gather(*server.tasks, return_exceptions=True)
    await listening.wait_closed()


@asynccontextmanager
async def pointing_to(url: str, *, silence: float = 5.0, **more: Any) -> AsyncIterator[Upstream]:
    deadlines = Deadlines(asyncio.get_running_loop())
    more.setdefault("environ", {})
    upstream = Upstream(url, connect_seconds=3, silence_seconds=silence, deadlines=deadlines, **more)
    try:
        yield upstream
    finally:
        await upstream.close()
        deadlines.close()
        await asyncio.sleep(0)


def send(upstream: Upstream, method: str = "POST", body: bytes | None = b"{}", **more: Any) -> tuple[Heard, Attempt]:
    heard = Heard()
    lines = [b"Content-Length: %d" % len(body)] if body is not None else [b"Transfer-Encoding: chunked"]
    return heard, upstream.send(method, "/x?a=b", lines, body, heard, **more)


async def ask(upstream: Upstream, method: str = "POST", body: bytes = b"{}", **more: Any) -> Heard:
    """Send, and wait for the end."""
    heard, _ = send(upstream, method, body, **more)
    async with asyncio.timeout(10):
        await heard.over.wait()
    return heard


async def read_one(reader: asyncio.StreamReader) -> bytes:
    """The head of the next request; its body is read too."""
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            await reader.readexactly(int(line.split(b":")[1]))
    return head


def says(*answers: bytes) -> Serve:
    """To each request of a connection the next of these; when there are no more, the last again."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = 0
        while True:
            await read_one(reader)
            writer.write(answers[min(number, len(answers) - 1)])
            number += 1

    return serve
