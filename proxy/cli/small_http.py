"""Just enough of an HTTP/1.1 server for scripted upstreams: it reads requests; the subclass writes its own bytes.

Nothing here is on the path of a request that taximeter forwards.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

MAX_HEAD = 65536  # bytes


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """Header names are lower-cased; `head` is the head as it came; `rest` is what the client sends after the body."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    head: bytes
    rest: asyncio.StreamReader

    @property
    def path(self) -> str:
        return urlsplit(self.target).path


class SmallHttpServer:
    """`async with … as server:` listens on 127.0.0.1 (port 0: a free one); after the block no connection is left."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def answer(self, request: HttpRequest, writer: asyncio.StreamWriter) -> None:
        """Write the whole response. Closing the writer ends the connection."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._connection, "127.0.0.1", self.port, limit=MAX_HEAD, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        connections = tuple(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await self._server.wait_closed()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while not writer.is_closing() and (request := await read_http_request(reader)):
                await self.answer(request, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has gone
        except asyncio.CancelledError:
            pass  # by __aexit__, the only one who knows this task; Python 3.11 reports a cancelled one as an error
        finally:
            writer.close()
            self._connections.discard(task)


async def read_http_request(reader: asyncio.StreamReader) -> HttpRequest | None:
    """The next request of a connection, None when the peer has closed it."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    request_line, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    method, target, _ = request_line.split(" ", 2)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b"".join([piece async for piece in _chunks(reader)])
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return HttpRequest(method, target, headers, body, head, reader)


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        size = int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16)
        data = await reader.readexactly(size + 2)
        if size == 0:
            return
        yield data[:-2]


def http_chunk(payload: bytes) -> bytes:
    """One piece of a `transfer-encoding: chunked` body. The empty one ends the body."""
    return f"{len(payload):x}\r\n".encode() + payload + b"\r\n"
