"""What the system knows of the bytes that were sent: did the peer take any of them?

A kept-alive connection may end just as a request is sent on it. Then the request may be sent once more, but only if the
first one cannot have been read: it would be billed, and nobody would count it. Linux can tell (tcp(7), TCP_INFO).
Elsewhere nothing is known: there, what may have been read counts as read.
"""

import socket
import struct
import sys
from enum import Enum, auto
from typing import NamedTuple

# linux/tcp.h, struct tcp_info: state; bytes acknowledged and received; bytes sent and sent again (since 4.19).
_STATE, _ACKED, _SENT = 0, 120, 200
_SIZE = 256
_NEEDED = 216
_TCP_ESTABLISHED, _TCP_CLOSE = 1, 7


class Taken(Enum):
    NOTHING = auto()
    """Not one byte was taken, and none will be."""
    PERHAPS = auto()
    UNDECIDED = auto()
    """Bytes are under way; the peer will take or reject them."""


class Mark(NamedTuple):
    """Counts of bytes, as they were before a request, and whether both ends were open then."""

    acked: int
    received: int
    sent: int
    is_open: bool


class Kernel:
    """A second descriptor of a connection's socket: it answers after the first one was closed. Close it."""

    __slots__ = ("_socket",)

    def __init__(self, fileno: int) -> None:
        self._socket = socket.socket(fileno=socket.dup(fileno)) if sys.platform == "linux" else None

    def mark(self) -> Mark | None:
        info = self._info()
        return None if info is None else _mark(info)

    def taken_since(self, mark: Mark | None) -> Taken:
        """What became of the bytes sent since `mark`, on a connection that was lost before a byte of an answer came."""
        info = self._info()
        if mark is None or info is None:
            return Taken.PERHAPS
        now = _mark(info)
        if now.sent == mark.sent:
            return Taken.NOTHING  # they never left
        if now.acked != mark.acked:
            return Taken.PERHAPS
        # No byte was acknowledged. That proves something only together with the peer's FIN (which counts as one byte
        # received): it acknowledged all that came before it. A reset acknowledges nothing: a peer that read the
        # request and then reset the connection looks like one that never saw it.
        if now.received != mark.received + 1:
            return Taken.PERHAPS
        # Until the peer has rejected the bytes, one that closed only its sending half could still take them.
        return Taken.NOTHING if info[_STATE] == _TCP_CLOSE else Taken.UNDECIDED

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _info(self) -> bytes | None:
        if self._socket is None:
            return None
        try:
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE)
        except OSError:  # not TCP
            return None
        return info if len(info) >= _NEEDED else None


def _mark(info: bytes) -> Mark:
    acked, received = struct.unpack_from("=QQ", info, _ACKED)
    sent, again = struct.unpack_from("=QQ", info, _SENT)
    return Mark(acked, received, sent - again, info[_STATE] == _TCP_ESTABLISHED)
