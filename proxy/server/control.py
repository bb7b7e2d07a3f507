"""What supervisor and workers tell each other: orders as frames on a worker's standard input, and its answers as lines

on a pipe of their own. The end of either means that the other side is gone.
"""

import asyncio
import os
import pickle
from contextlib import suppress
from dataclasses import dataclass, replace

from proxy.config import Config

_LENGTH_BYTES = 4
READY = b"ready"
REFUSED = b"refused: "


@dataclass(frozen=True, slots=True)
class Orders:
    """A worker's configuration, and where its store is. Sent at the start and whenever it is read again."""

    config: Config
    store_url: str
    slot: int = -1
    number: int = 0
    """Of the reading of the configuration: a worker says it when it follows these orders."""

    def of(self, slot: int) -> "Orders":
        """The same for the worker in this slot."""
        return replace(self, slot=slot)

    def next(self, config: Config) -> "Orders":
        """Those that come after these."""
        return replace(self, config=config, number=self.number + 1)


class End:
    """One end of a pipe, a descriptor, for an event loop that takes it over (`connect_read_pipe` and its like).

    uvloop closes the descriptor, and then calls `close`, when another thread may have opened a file under the same
    number: that must not be closed in its place (its issue 763). So this does nothing.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        """See above."""


def frame(orders: Orders) -> bytes:
    body = pickle.dumps(orders)
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


def read_frame(pipe: int) -> Orders | None:
    """The next orders from a file descriptor, or None at its end. Blocks; takes not one byte more than the frame."""
    head = _read_exactly(pipe, _LENGTH_BYTES)
    if len(head) < _LENGTH_BYTES:
        return None
    body = _read_exactly(pipe, int.from_bytes(head, "big"))
    # Only the supervisor that started this process holds the other end.
    orders: Orders = pickle.loads(body)  # noqa: S301
    return orders


def _read_exactly(pipe: int, size: int) -> bytes:
    pieces = bytearray()
    while len(pieces) < size and (piece := os.read(pipe, size - len(pieces))):
        pieces += piece
    return bytes(pieces)


class Frames:
    """The same, fed with bytes as they come."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[Orders]:
        self._pending += data
        found: list[Orders] = []
        while len(self._pending) >= _LENGTH_BYTES:
            end = _LENGTH_BYTES + int.from_bytes(self._pending[:_LENGTH_BYTES], "big")
            if len(self._pending) < end:
                break
            found.append(pickle.loads(bytes(self._pending[_LENGTH_BYTES:end])))  # noqa: S301 - see read_frame
            del self._pending[:end]
        return found


def tell(pipe: int, word: bytes) -> None:
    """A worker's answer. Where the supervisor is gone nobody hears it, and the end of the orders says so."""
    with suppress(BrokenPipeError):
        os.write(pipe, word + b"\n")


def applied(number: int) -> bytes:
    """The answer to orders of this number: they are followed. With REFUSED before it: they cannot be."""
    return b"applied %d" % number


class Answers(asyncio.Protocol):
    """What one worker has said so far, as its supervisor hears it."""

    def __init__(self) -> None:
        self._said: set[bytes] = set()
        self._rest = b""
        self._heard = asyncio.Event()
        self.ended = asyncio.Event()
        """The pipe is closed: as a rule because the worker has ended, however it did."""

    @classmethod
    async def open(cls, pipe: int) -> "Answers":
        """Takes the descriptor over."""
        answers = cls()
        await asyncio.get_running_loop().connect_read_pipe(lambda: answers, End(pipe))
        return answers

    async def first_of(self, *words: bytes, seconds: float) -> bytes | None:
        """The first of these words that was said; None when the worker has gone or says none of them in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    found = next((word for word in words if word in self._said), None)
                    if found is not None or self.ended.is_set():
                        return found
                    self._heard.clear()
                    await self._heard.wait()
        return None

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._said.update(lines)
        self._heard.set()

    def connection_lost(self, _: Exception | None) -> None:
        self.ended.set()
        self._heard.set()
