"""A client's connection: requests are read strictly, one is served at a time, and whoever is too slow is let go.

Requests that follow before the reply is whole (pipelining) wait here, and the client is held back when they are many.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, cast

from proxy.deadlines import NEVER, Deadlines
from proxy.http1 import BadHttp, Body, Empty, Length, SeenHeads, end_of_head
from proxy.server.replies import Refused, bad_http, too_slow
from proxy.server.request import Request

HEAD_SECONDS = 30.0  # from a head's first byte to its last
IDLE_SECONDS = 75.0  # of a kept-alive connection; longer than what common clients keep
BODY_SECONDS, BODY_RATE = 60.0, 1024.0  # a body may pause so long, and comes with so many bytes a second at least
STALL_SECONDS = 120.0  # a client that reads nothing
LINGER_SECONDS = 5.0  # a client that still sends when it was answered: else it might not read why
MAX_WAITING = 256 * 1024
"""Bytes of following requests, or of a body that nobody has asked for, that are kept."""
WRITE_BUFFER = 256 * 1024
_ALL_THERE: Final = Empty()  # the rest of a body of which nothing is to come
_CAPITALS: Final = frozenset(range(ord("A"), ord("Z") + 1))


class House(Protocol):
    """Who opens connections, and serves what comes on them."""

    deadlines: Deadlines
    heads: SeenHeads
    is_draining: bool

    def came(self, connection: "ClientConnection") -> None: ...
    def left(self, connection: "ClientConnection") -> None: ...
    def serve_at_once(self, request: Request) -> bool:
        """Serve a request whose body is whole, if nothing has to be waited for first; else `serve` is to be called."""

    async def serve(self, request: Request) -> None: ...
    def refuse(self, request: Request | None, refused: Refused) -> bytes: ...


class ClientConnection:
    """An asyncio.Protocol in all but name. One at a time: `_request` is the one that is served now."""

    __slots__ = (
        "_body_began", "_body_size", "_held", "_house", "_is_full", "_is_held", "_lingers", "_loop", "_request",
        "_task", "_transport", "deadline", "write",
    )  # fmt: skip

    def __init__(self, house: House, loop: asyncio.AbstractEventLoop) -> None:
        self._house = house
        self._loop = loop
        self._transport: asyncio.Transport
        self.write: Callable[[bytes], object]
        self._request: Request | None = None
        self._task: asyncio.Task[None] | None = None
        self._held = b""
        self._is_held = self._is_full = self._lingers = False
        self._body_began = 0.0
        self._body_size = 0
        self.deadline = NEVER

    # --- called by the event loop, and by the deadlines ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast("asyncio.Transport", transport)  # uvloop's are of no class of asyncio's
        self.write = transport.write
        transport.set_write_buffer_limits(high=WRITE_BUFFER)
        self.deadline = self._loop.time() + IDLE_SECONDS
        self._house.deadlines.watch(self)
        self._house.came(self)

    def data_received(self, data: bytes) -> None:
        request = self._request
        try:
            if self._lingers:
                return
            if request is None:
                self._read(data)
            elif request.is_switched:
                request.took(data)
            elif not request.body.done:
                self._feed(request, request.body, data)
            else:
                self._keep(data)
        except BadHttp as error:
            self._refuse(bad_http(str(error)))

    def eof_received(self) -> bool:
        return False  # the transport closes itself

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - whatever the reason, nobody is there
        self._house.deadlines.forget(self)
        self._house.left(self)
        request, task = self._request, self._task
        self._held = b""
        if request is not None:
            self._request = None
            request.gone = True
            if request.serving is not None:
                request.serving.client_left()
        if task is not None:
            task.cancel()

    def pause_writing(self) -> None:
        self._is_full = True
        self.deadline = self._loop.time() + STALL_SECONDS
        if self._request is not None and self._request.serving is not None:
            self._request.serving.client_full()

    def resume_writing(self) -> None:
        self._is_full = False
        self.deadline = self._usual_deadline()
        if self._request is not None and self._request.serving is not None:
            self._request.serving.client_ready()

    def expire(self) -> None:
        request = self._request
        if self._is_full or self._lingers or (request is not None and request.is_replied):
            self._transport.abort()
        elif request is not None or self._held:
            self._refuse(too_slow())
        else:
            self._transport.close()

    # --- called by the request ---

    def keeps(self, request: Request) -> bool:
        """May another request follow on this connection? Not after a body that was not read to its end."""
        return request.body.done and not self._house.is_draining

    def hold(self) -> None:
        if not self._is_held:
            self._is_held = True
            self.deadline = self._usual_deadline()
            self._transport.pause_reading()

    def go_on(self) -> None:
        if self._is_held:
            self._is_held = False
            self.deadline = self._usual_deadline()
            self._transport.resume_reading()

    def switched(self) -> None:
        """The connection is a tunnel; what came already belongs into it."""
        self.deadline = NEVER
        held, self._held = self._held, b""
        request = self._request
        assert request is not None
        request.stream()
        if held:
            request.took(held)

    def replied(self, *, keep: bool) -> None:
        """The reply is whole."""
        request = self._request
        assert request is not None
        if not keep:
            self._end(whole=request.body.done)
            return
        self._request = self._task = None
        if self._house.is_draining:
            self._transport.close()
            return
        if not self._is_full:
            self.deadline = self._loop.time() + IDLE_SECONDS
        self.go_on()
        if self._held:
            held, self._held = self._held, b""
            try:
                self._read(held, is_waiting=True)
            except BadHttp as error:
                self._refuse(bad_http(str(error)))

    def break_off(self, *, cleanly: bool) -> None:
        """Without the reply's end. `cleanly`: what was written is sent first, and the client sees that it is a part."""
        if cleanly:
            self._transport.close()
        else:
            self._transport.abort()

    # --- called by the house ---

    @property
    def is_idle(self) -> bool:
        return self._request is None

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    # --- reading ---

    def _read(self, data: bytes, *, is_waiting: bool = False) -> None:
        """A request's head, whole or a part of it.

        `is_waiting`: it came while another one was served, at whose end this is called. It gets a task in any case, so
        that many refused ones in a row are not served each inside the one before.
        """
        held = self._held
        if held:
            data = held + data
        else:
            self.deadline = self._loop.time() + HEAD_SECONDS
        if data[0] not in _CAPITALS:  # TLS, or noise: it might never come to a head's end
            raise BadHttp("the request line is none")
        end = end_of_head(data, len(held))
        if end < 0:
            self._held = data
            return
        self._held = b""
        head, length = self._house.heads.read(data[:end])
        body: Body
        if len(data) - end == length and not head.chunked:  # by far the most come in one piece
            body = _ALL_THERE
            request = self._request = Request(self, head, length, body)
            self.deadline = NEVER
            if length:
                request.took(data[end:])
        else:
            body = Length(length) if length else head.body()
            request = self._request = Request(self, head, length, body)
            data = data[end:]
            if body.done:
                self.deadline = NEVER
                self._keep(data)
            else:
                self._body_began = self._loop.time()
                self._body_size = 0
                self._feed(request, body, data)
        if body.done and not is_waiting and self._house.serve_at_once(request):
            return
        # It belongs to this connection, and ends with it.
        self._task = self._loop.create_task(self._house.serve(request), name="request")

    def _feed(self, request: Request, body: Body, data: bytes) -> None:
        payload = body.feed(data)
        if body.done:
            self._held = body.rest
            self.deadline = NEVER
        else:
            self._body_size += len(data)
            self.deadline = self._usual_deadline()
        request.took(payload)
        if request.waiting > MAX_WAITING and not body.done:
            self.hold()

    def _keep(self, data: bytes) -> None:
        """The next request: it waits for the end of this one."""
        self._held += data
        if len(self._held) > MAX_WAITING:
            self.hold()

    def _usual_deadline(self) -> float:
        request, now = self._request, self._loop.time()
        if self._is_full:
            return now + STALL_SECONDS
        if request is None:
            return now + IDLE_SECONDS
        if request.body.done or self._is_held:
            return NEVER
        return min(now, self._body_began + self._body_size / BODY_RATE) + BODY_SECONDS

    # --- ending ---

    def _refuse(self, refused: Refused) -> None:
        """What came cannot be served, and nothing that follows it can be believed."""
        request = self._request
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if request is not None and request.serving is not None:
            serving, request.serving = request.serving, None
            request.gone = True
            serving.client_left()
        if request is not None and request.is_replied:
            self._transport.abort()
            return
        self._transport.write(self._house.refuse(request, refused))
        self._end(whole=False)

    def _end(self, *, whole: bool) -> None:
        """Close. A client that still sends would get a reset instead of its reply: it is heard out for a moment."""
        self._held = b""
        if whole:
            self._transport.close()
            return
        self._lingers = True
        self.go_on()
        self.deadline = self._loop.time() + LINGER_SECONDS
        if self._transport.can_write_eof():
            self._transport.write_eof()
