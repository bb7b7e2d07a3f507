"""One request of a client, and its reply: what the rest of the server sees of a connection."""

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol

from proxy.http1 import Body, RequestHead, chunk, last_chunk
from proxy.server.replies import Refused, body_too_large

if TYPE_CHECKING:
    from proxy.server.connection import ClientConnection

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_OK: Final = b"HTTP/1.1 200 OK"
_CHUNKED: Final = b"Transfer-Encoding: chunked"
_CLOSE: Final = b"Connection: close"
LARGE = 64 * 1024
"""Bytes. A larger piece is not copied to be framed."""


class Serving(Protocol):
    """Who serves a request hears what its client does."""

    def client_left(self) -> None:
        """Nothing more is called, and what is written goes nowhere."""

    def client_full(self) -> None:
        """The client takes no more for now."""

    def client_ready(self) -> None: ...

    def client_sent(self, payload: bytes) -> None:
        """A piece of a streamed body, or of what follows an upgrade."""

    def client_sent_all(self, trailers: list[bytes]) -> None: ...


class Request:
    """Head, body and reply. The body is read whole (`read`) or streamed to who serves it (`stream`)."""

    __slots__ = (
        "_connection", "_ends_with_connection", "_gathered", "_is_chunked", "_keeps", "_limit", "_pieces", "_size",
        "_streams", "_wants_continue", "_whole", "body", "gone", "head", "is_replied", "is_switched", "length",
        "serving",
    )  # fmt: skip

    def __init__(self, connection: "ClientConnection", head: RequestHead, length: int, body: Body) -> None:
        self._connection = connection
        self.head = head
        """Others may have the same one: the body's length is told apart."""
        self.length = length
        """Bytes of the body; 0: there is none, or it comes in chunks."""
        self.body = body
        self.serving: Serving | None = None
        self.gone = False
        self.is_replied = False
        """A reply was begun."""
        self.is_switched = False
        """The connection is a tunnel now."""
        self._pieces: list[bytes] = []
        self._size = 0
        self._limit: int | None = None
        self._whole: asyncio.Future[None] | None = None
        self._streams = False
        self._is_chunked = False
        self._ends_with_connection = False
        self._gathered: list[bytes] | None = None
        self._keeps = head.persistent
        self._wants_continue = head.expects_continue

    # --- the body ---

    async def read(self, limit: int) -> bytes:
        """The body, whole. Raises Refused when it is larger than `limit` bytes."""
        if self.length > limit or self._size > limit:
            raise body_too_large(limit)
        if not self.body.done:
            self._limit = limit
            self._whole = asyncio.get_running_loop().create_future()
            self._go_on()
            await self._whole
        return self.whole()

    def whole(self) -> bytes:
        """The body, which has come to its end."""
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def stream(self) -> None:
        """Give the body to who serves it, from its beginning, as it comes. Again: go on after `hold`."""
        serving = self.serving
        assert serving is not None
        if not self._streams:
            self._streams = True
            pieces, self._pieces = self._pieces, []
            for piece in pieces:
                serving.client_sent(piece)
            if self.body.done:
                serving.client_sent_all(self.body.trailers)
                return
        self._go_on()

    def hold(self) -> None:
        """Take no more of the body for now."""
        self._connection.hold()

    @property
    def waiting(self) -> int:
        """Bytes of the body that nobody has taken yet."""
        return 0 if self._streams or self._whole is not None else self._size

    def took(self, payload: bytes) -> None:
        """By the connection: a piece of the body, or of what follows an upgrade. It may be the last."""
        body = self.body
        if self._streams:
            serving = self.serving
            if serving is None:
                return
            if payload:
                serving.client_sent(payload)
            if body.done and not self.is_switched:
                serving.client_sent_all(body.trailers)
            return
        if payload:
            self._pieces.append(payload)
            self._size += len(payload)
        whole = self._whole
        if whole is None or whole.done():
            return
        if self._limit is not None and self._size > self._limit:
            self._pieces.clear()
            whole.set_exception(body_too_large(self._limit))
        elif body.done:
            whole.set_result(None)

    def _go_on(self) -> None:
        if self._wants_continue and not self._size and not self.is_replied:
            self._wants_continue = False
            self._connection.write(_CONTINUE)
        self._connection.go_on()

    # --- the reply ---

    def refuse(self, refused: Refused, entry_id: str) -> None:
        """The whole reply is ours."""
        self.answer(refused.status, b"", refused.lines(entry_id), refused.body())

    def answer(self, status: int, reason: bytes, lines: list[bytes], body: bytes) -> None:
        """A whole reply of ours; its length is added here."""
        lines.append(b"Content-Length: %d" % len(body))
        self._keeps = self._keeps and self._connection.keeps(self)
        self._write(self._head(status, reason or HTTPStatus(status).phrase.encode(), lines))
        if self.head.method != "HEAD":
            self._write(body)
        if not self.gone:
            self._connection.replied(keep=self._keeps)

    def reply(self, status: int, reason: bytes, lines: list[bytes], body: bytes) -> None:
        """A whole reply, whose lines say how long it is: one write."""
        self._keeps = self._keeps and self._connection.keeps(self)
        if not self.gone:
            self._connection.write(self._head(status, reason, lines) + body)
            self._connection.replied(keep=self._keeps)

    def start(self, status: int, reason: bytes, lines: list[bytes], *, framed: bool) -> None:
        """A reply that comes in pieces. `framed`: the lines say how long it is, or it has no body."""
        self._keeps = self._keeps and self._connection.keeps(self)
        if not framed:
            if self.head.is_1_1:
                self._is_chunked = True
                lines.append(_CHUNKED)
            else:
                self._keeps = False
                self._ends_with_connection = True
        self._write(self._head(status, reason, lines))

    def switch(self, reason: bytes, lines: list[bytes]) -> None:
        """The upgrade was accepted: from here on bytes go both ways as they come."""
        self.is_switched = True
        self._keeps = True  # no `connection: close` beside the upgrade
        self._write(self._head(101, reason, lines))
        self._keeps = False
        self._connection.switched()

    def write(self, payload: bytes, framed: bytes | None = None) -> None:
        """A piece of the reply. `framed`: the same as chunks, if it came so."""
        if self.gone:
            return
        if framed is not None and self._is_chunked:
            self._write(framed)
        elif not self._is_chunked:
            self._write(payload)
        elif len(payload) < LARGE:
            if payload:
                self._write(chunk(payload))
        else:
            self._write(b"%x\r\n" % len(payload))
            self._write(payload)
            self._write(b"\r\n")

    def gather(self) -> None:
        """What is written from here on goes out together: with `flush`, or with the end of the reply."""
        self._gathered = []

    def flush(self) -> None:
        gathered, self._gathered = self._gathered, None
        if gathered and not self.gone:
            self._connection.write(gathered[0] if len(gathered) == 1 else b"".join(gathered))

    def end(self, trailers: list[bytes]) -> None:
        """The reply is whole."""
        if self._is_chunked:
            self._write(last_chunk(trailers))
        self.flush()
        if not self.gone:
            self._connection.replied(keep=self._keeps)

    def break_off(self) -> None:
        """The reply stays without its end. What was written is still sent; the client sees that more was to come."""
        self.flush()
        if not self.gone:
            self._connection.break_off(cleanly=not self._ends_with_connection)

    def _head(self, status: int, reason: bytes, lines: list[bytes]) -> bytes:
        self.is_replied = True
        if not self._keeps:
            lines.append(_CLOSE)
        line = _OK if status == 200 and reason == b"OK" else b"HTTP/1.1 %d %b" % (status, reason)
        return b"\r\n".join([line, *lines, b"", b""])

    def _write(self, data: bytes) -> None:
        if self.gone:
            return
        if self._gathered is not None:
            self._gathered.append(data)
        else:
            self._connection.write(data)
