"""What the system knows of the bytes that were sent: did the peer take any of them?

A kept-alive connection may end just as a request is sent on it. Then the request may be sent once more, but only if the
first one cannot have been read: it would be billed, and nobody would count it. Linux can tell (tcp(7), TCP_INFO).
Elsewhere nothing is known: there, what may have been read counts as read.
"""

import socket
import struct
import sys
from enum import Enum, auto

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


class Mark:
    """What the system said of a connection. Read only when somebody wants to know: one is taken before each request."""

    __slots__ = ("_info",)

    def __init__(self, info: bytes) -> None:
        self._info = info

    @property
    def state(self) -> int:
        return self._info[_STATE]

    @property
    def is_open(self) -> bool:
        """Both ends were open."""
        return self._info[_STATE] == _TCP_ESTABLISHED

    @property
    def counts(self) -> tuple[int, int, int]:
        """Bytes that the peer had acknowledged, that had been received, and that had been sent."""
        acked, received = struct.unpack_from("=QQ", self._info, _ACKED)
        sent, again = struct.unpack_from("=QQ", self._info, _SENT)
        return acked, received, sent - again


class Kernel:
    """A second descriptor of a connection's socket: it answers after the first one was closed. Close it."""

    __slots__ = ("_socket",)

    def __init__(self, fileno: int) -> None:
        self._socket = socket.socket(fileno=socket.dup(fileno)) if sys.platform == "linux" else None

    def mark(self) -> Mark | None:
        """What it knows now; None: nothing."""
        if self._socket is None:
            return None
        try:
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE)
        except OSError:  # not TCP
            return None
        return Mark(info) if len(info) >= _NEEDED else None

    def taken_since(self, mark: Mark | None) -> Taken:
        """What became of the bytes sent since `mark`, on a connection that was lost before a byte of an answer came."""
        now = self.mark()
        if mark is None or now is None:
            return Taken.PERHAPS
        acked, received, sent = now.counts
        acked_before, received_before, sent_before = mark.counts
        if sent == sent_before:
            return Taken.NOTHING  # they never left
        if acked != acked_before:
            return Taken.PERHAPS
        # No byte was acknowledged. That proves something only together with the peer's FIN (which counts as one byte
        # received): it acknowledged all that came before it. A reset acknowledges nothing: a peer that read the
        # request and then reset the connection looks like one that never saw it.
        if received != received_before + 1:
            return Taken.PERHAPS
        # Until the peer has rejected the bytes, one that closed only its sending half could still take them.
        return Taken.NOTHING if now.state == _TCP_CLOSE else Taken.UNDECIDED

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
