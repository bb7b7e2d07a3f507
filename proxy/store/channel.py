"""A wire in its steady state: one call at a time, written at once, and its answer read where it arrives.

No task is woken for a call, and no stream and no time-out stands between: at thousands of calls a second they cost more
than the calls. Everything else about a connection (dialing, TLS, logging in, closing) stays with Wire.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from hiredis import Reader
from redis.exceptions import InvalidResponse, RedisError, ResponseError

from proxy.errors import StoreAway, StoreError
from proxy.store.wire import Wire


class Channel:
    """An asyncio.Protocol in all but name, which takes the wire over until `detach`.

    Its owner sees to it that a call has been answered before the next.

    `on_answer` is called with each answer (bytes, integers, lists, None; a StoreError where the server says one), and
    `on_lost` once, when there will be none any more. Neither is called after `detach`, nor within `send`.
    """

    def __init__(
        self, wire: Wire, on_answer: Callable[[object], object], on_lost: Callable[[StoreError], object]
    ) -> None:
        """Raises StoreAway when the wire is gone already."""
        self._wire = wire
        self._on_answer = on_answer
        self._on_lost = on_lost
        self._is_attached = True
        self._awaits = False
        self._reader = Reader(protocolError=InvalidResponse, replyError=ResponseError)
        self._transport, self._before = wire.hand_over(cast("asyncio.Protocol", self))

    def send(self, command: bytes) -> None:
        self._awaits = True
        self._transport.write(command)

    def detach(self) -> None:
        """Give the wire back."""
        if self._is_attached:
            self._is_attached = False
            self._transport.set_protocol(self._before)

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            answer = self._reader.gets()
        except RedisError as error:
            self._lose(self._wire.failure(error))
            return
        if answer is False:  # it is not whole
            return
        if not self._awaits or self._reader.has_data():
            self._lose(StoreAway(f"{self._wire.shown}: it says something that nobody asked"))
            return
        self._awaits = False
        self._on_answer(self._wire.failure(answer) if isinstance(answer, ResponseError) else answer)

    def eof_received(self) -> bool:
        return False  # the transport closes itself

    def pause_writing(self) -> None:
        """There is one call at a time: nothing more is written before its answer."""

    def resume_writing(self) -> None:
        """Nobody waits for it."""

    def connection_lost(self, error: Exception | None) -> None:
        self._before.connection_lost(error)  # who closes the wire waits for that
        if error is None:
            self._lose(StoreAway(f"{self._wire.shown}: the connection was closed"))
        else:
            self._lose(
                self._wire.failure(error) if isinstance(error, OSError) else StoreAway(f"{self._wire.shown}: {error}")
            )

    def _lose(self, error: StoreError) -> None:
        if self._is_attached:
            self.detach()
            self._on_lost(error)
