"""One connection to the upstream: a request goes out, its answer comes in and is read strictly.

A connection serves one attempt at a time and is given back when request and answer are whole. Bytes that nobody asked
for (after the end of an answer, or before a request) make it unusable: the next request must never get them.

Above 300 lines because it is one state machine: whatever changes a connection stands in this file.
"""

import asyncio
import logging
import socket
from typing import TYPE_CHECKING, cast

from proxy.deadlines import NEVER, TICK_SECONDS
from proxy.errors import UpstreamTooSlow, UpstreamUnreachable
from proxy.http1 import BadHttp, Body, ResponseHead, end_of_head, read_response
from proxy.upstream.attempt import Attempt
from proxy.upstream.kernel import Kernel, Mark, Taken

if TYPE_CHECKING:
    from proxy.upstream.pool import Upstream

PIECE = 256 * 1024
"""Bytes of a large body that are written at once: nobody else waits for more."""
MAX_INTERIM = 16  # answers of 1xx before one answer
UNDECIDED_SECONDS, LOOK_SECONDS = 1.0, 0.01
WRITE_BUFFER = 64 * 1024

log = logging.getLogger(__name__)


class Connection:
    """An asyncio.Protocol in all but name, made by its home.

    `deadline` is of silence while an attempt is under way, else of idleness. It is not moved for each piece of a body:
    when it has passed, `_heard` says whether it was still right.
    """

    __slots__ = (
        "_attempt", "_body", "_bytes_came", "_deadlines", "_head", "_heard", "_held", "_home", "_interim", "_is_full",
        "_is_paused", "_kernel", "_loop", "_mark", "_transport", "_tunnels", "_unsent", "deadline", "made_at", "served",
    )  # fmt: skip

    def __init__(self, home: "Upstream", loop: asyncio.AbstractEventLoop) -> None:
        self._home = home
        self._loop = loop
        self._deadlines = home.deadlines
        self._heard = 0.0  # when a piece of a body came, by the tick before it
        self.deadline = NEVER
        self.made_at = loop.time()
        self.served = 0
        self._attempt: Attempt | None = None
        self._kernel: Kernel
        self._transport: asyncio.Transport
        self._reset()

    def _reset(self) -> None:
        self._held = b""
        self._head: ResponseHead | None = None
        self._body: Body | None = None
        self._mark: Mark | None = None
        self._unsent: memoryview | None = None
        self._bytes_came = False
        self._tunnels = False
        self._is_full = False
        self._is_paused = False
        self._interim = 0

    @property
    def transport(self) -> asyncio.Transport:
        return self._transport

    def is_usable(self) -> bool:
        """It can carry a request now: nobody has closed it, as far as the system knows this very moment."""
        if self._attempt is not None or self._transport.is_closing():
            return False
        mark = self._mark = self._kernel.mark()
        return mark is None or mark.is_open

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast("asyncio.Transport", transport)  # uvloop's are of no class of asyncio's
        transport.set_write_buffer_limits(high=WRITE_BUFFER)
        connected = transport.get_extra_info("socket")
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._kernel = Kernel(connected.fileno())
        self._home.deadlines.watch(self)

    def carry(self, attempt: Attempt) -> None:
        """Send a request, where `is_usable` has just said so. The answer goes to its receiver."""
        self._attempt = attempt
        attempt.connection = self
        attempt.began = True
        self.deadline = self._loop.time() + self._home.silence_seconds
        body = attempt.body
        if body is None:
            self._transport.write(attempt.head)
            attempt.receiver.upstream_ready()
        elif len(body) <= PIECE:
            self._transport.write(attempt.head + body)
        else:
            self._transport.write(attempt.head)
            self._unsent = memoryview(body)
            self._send_unsent()

    def write(self, data: bytes | memoryview) -> None:
        if not self._tunnels:
            self.deadline = self._loop.time() + self._home.silence_seconds
        self._transport.write(data)

    def pause(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self.deadline = NEVER
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._is_paused:
            self._is_paused = False
            if not self._tunnels:
                self.deadline = self._loop.time() + self._home.silence_seconds
            self._transport.resume_reading()

    def abandon(self) -> None:
        """The attempt is over before its end."""
        self._attempt = None
        self._transport.abort()

    def close(self) -> None:
        self._transport.close()

    # --- called by the event loop, and by the deadlines ---

    def data_received(self, data: bytes) -> None:
        attempt, body = self._attempt, self._body
        if attempt is not None and body is not None and not self._tunnels:
            self._heard = self._deadlines.now
            try:
                payload = body.feed(data)
            except BadHttp as error:
                self._fail(f"sent what is no HTTP answer ({error})")
                return
            if payload:
                attempt.receiver.came(payload, data if body.verbatim else None)
            if body.done and not attempt.over:
                self._end(attempt, body)
            return
        if attempt is None:
            log.warning("the upstream %s sent bytes that nobody asked for: the connection is closed", self._home.shown)
            self._transport.abort()
            return
        try:
            if body is None:
                self._bytes_came = True
                self._read_heads(attempt, data)
            else:
                attempt.receiver.came(data, None)
        except BadHttp as error:
            self._fail(f"sent what is no HTTP answer ({error})")

    def eof_received(self) -> bool:
        attempt, body = self._attempt, self._body
        if attempt is not None and body is not None and body.ends_with_connection:
            self._attempt = None
            attempt.over = True
            attempt.receiver.ended([])
        return False  # the transport closes itself

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - what is known of it, the kernel says
        self._home.deadlines.forget(self)
        self._home.gone(self)
        attempt = self._attempt
        if attempt is None or attempt.over:
            self._kernel.close()
        elif self._tunnels:
            self._kernel.close()
            self._attempt = None
            attempt.over = True
            attempt.receiver.ended([])
        elif self._bytes_came:
            self._kernel.close()
            self._fail("broke off in the middle of its answer")
        else:
            self._decide(attempt, self._loop.time() + UNDECIDED_SECONDS)

    def pause_writing(self) -> None:
        self._is_full = True
        if self._attempt is not None:
            self._attempt.receiver.upstream_full()

    def resume_writing(self) -> None:
        self._is_full = False
        if self._unsent is not None:
            self._send_unsent()
        elif self._attempt is not None:
            self._attempt.receiver.upstream_ready()

    def expire(self) -> None:
        attempt = self._attempt
        if attempt is None:
            self._transport.close()
            return
        if self._body is not None:
            late = self._heard + TICK_SECONDS + self._home.silence_seconds
            if late > self._loop.time():
                self.deadline = late
                return
            self._fail("went silent in the middle of its answer", slow=True)
        else:
            self._fail("did not answer in time", slow=True)

    # --- reading ---

    def _read_heads(self, attempt: Attempt, data: bytes) -> None:
        """The answer's head, and interim ones before it, which are for this hop alone."""
        held = self._held
        data = held + data if held else data
        while True:
            end = end_of_head(data, len(held))
            if end < 0:
                self._held = data
                return
            head = read_response(data[:end], attempt.method)
            data = data[end:]
            held = self._held = b""
            if not head.is_interim:
                break
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise BadHttp("it has no end of interim answers")
            if not data:
                return
        self._head = head
        if head.status == 101:
            if not (attempt.upgrade and head.switches):
                raise BadHttp("it switches to what it was not asked for")
            self._tunnels = True
            self.deadline = NEVER
        else:
            self.deadline = self._loop.time() + self._home.silence_seconds
        body = self._body = head.body()
        attempt.receiver.answered(head)
        if attempt.over:
            return
        if self._tunnels:
            if data:
                attempt.receiver.came(data, None)
        elif data or body.done:
            self._feed(attempt, body, data)

    def _feed(self, attempt: Attempt, body: Body, data: bytes) -> None:
        payload = body.feed(data)
        if payload:
            attempt.receiver.came(payload, data if body.verbatim else None)
        if body.done and not attempt.over:
            self._end(attempt, body)

    def _end(self, attempt: Attempt, body: Body) -> None:
        head = self._head
        self._attempt = None
        attempt.over = True
        self.served += 1
        if body.rest:
            log.warning("the upstream %s sent bytes after its answer: the connection is closed", self._home.shown)
            self._transport.abort()
        elif head is not None and head.persistent and attempt.sent_all and self._unsent is None:
            if self._is_paused:
                self._transport.resume_reading()
            self._reset()
            self._home.give_back(self)
        else:
            self._transport.close()
        attempt.receiver.ended(body.trailers)

    # --- writing, and failing ---

    def _send_unsent(self) -> None:
        while self._unsent is not None and not self._is_full:
            self.write(self._unsent[:PIECE])
            self._unsent = self._unsent[PIECE:] or None

    def _fail(self, what: str, *, slow: bool = False) -> None:
        attempt = self._attempt
        if attempt is None:
            return
        self._attempt = None
        self._transport.abort()
        kind = UpstreamTooSlow if slow else UpstreamUnreachable
        attempt.fail(kind(f"the upstream {self._home.shown} {what}", sent=True))

    def _decide(self, attempt: Attempt, until: float) -> None:
        """It was lost without a byte of an answer. Whether the request may have been read decides what is done."""
        taken = self._kernel.taken_since(self._mark)
        if taken is Taken.UNDECIDED and self._loop.time() < until and not attempt.over:
            self._loop.call_later(LOOK_SECONDS, self._decide, attempt, until)
            return
        self._kernel.close()
        self._attempt = None
        attempt.connection = None
        if attempt.over:
            return
        if taken is Taken.NOTHING and self.served and attempt.may_repeat:
            attempt.began = False
            attempt.is_repeat = True
            self._home.repeat(attempt)
            return
        sent = taken is not Taken.NOTHING
        attempt.began = sent
        reason = f"the upstream {self._home.shown} closed the connection without an answer"
        attempt.fail(UpstreamUnreachable(reason, sent=sent))
