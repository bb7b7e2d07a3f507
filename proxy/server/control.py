"""What a supervisor tells its workers: frames on their standard input. Its end means that the supervisor is gone."""

import os
import pickle
from dataclasses import dataclass

from proxy.config import Config

_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class Orders:
    """A worker's configuration, and where its store is. Sent at the start and whenever it is read again."""

    config: Config
    store_url: str
    slot: int


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
