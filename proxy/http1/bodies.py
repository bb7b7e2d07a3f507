"""Bodies: fed with bytes as they come, they give the payload, and say where the body ends (RFC 9112 § 6 and 7)."""

import re
from abc import ABC, abstractmethod
from typing import Final

from proxy.http1.fields import BadHttp, read_fields

MAX_SIZE_LINE = 256  # bytes of a chunk's size and extensions
MAX_EXTENSIONS = 16 * 1024  # bytes of extensions in one body: nobody needs any
MAX_TRAILERS = 16 * 1024
_MAX_WHOLE: Final = 2048  # bytes of a chunk that is looked up in _WHOLE

_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,8}")
# An extension as every reader takes it: no blanks, no quotes. Others are refused.
_SIZE_LINE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,8})((?:;[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:=[!#$%&'*+\-.^_`|~0-9A-Za-z]+)?)*)"
)
# By the bytes of a chunk with all that frames it: its size line in the usual form, and where its payload begins.
# Filled as they occur.
_WHOLE: Final[dict[int, tuple[bytes, int]]] = {}
# In a trailer these would change how the message is read, for who heeds them: refused.
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding", b"host", b"connection", b"trailer", b"upgrade"})
# And these say what has to be known before the body: they go no further.
_NOT_IN_TRAILERS: Final = frozenset(
    {
        b"keep-alive", b"te", b"authorization", b"content-encoding", b"content-type", b"content-range", b"expect",
        b"cookie", b"set-cookie", b"api-key", b"x-api-key", b"x-taximeter-entry", b"x-taximeter-cost-usd",
    }
)  # fmt: skip


class Body(ABC):
    """What all bodies have.

    `feed` returns payload. Once `done`, `rest` is what came after the body, and nothing more may be fed.
    """

    __slots__ = ("done", "rest", "trailers", "verbatim")

    def __init__(self) -> None:
        self.done = False
        self.rest = b""
        self.verbatim = False
        """What was fed last are whole chunks without anything else: they may go on as they stand."""
        self.trailers: list[bytes] = []
        """Header lines after the last chunk, those that may stand there."""

    @abstractmethod
    def feed(self, data: bytes) -> bytes: ...

    @property
    def ends_with_connection(self) -> bool:
        return False


class Empty(Body):
    """There is none."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()
        self.done = True

    def feed(self, data: bytes) -> bytes:
        self.rest += data
        return b""


class Length(Body):
    """So many bytes."""

    __slots__ = ("left",)

    def __init__(self, length: int) -> None:
        super().__init__()
        self.left = length

    def feed(self, data: bytes) -> bytes:
        left = self.left - len(data)
        if left > 0:
            self.left = left
            return data
        self.done = True
        if left < 0:
            self.rest = data[left:]
            data = data[:left]
        self.left = 0
        return data


class UntilClose(Body):
    """Everything up to the end of the connection: of responses only."""

    __slots__ = ()

    def feed(self, data: bytes) -> bytes:
        return data

    @property
    def ends_with_connection(self) -> bool:
        return True


class Chunked(Body):
    """Chunks. Strict in what stands between them; extensions are read over and go no further."""

    __slots__ = ("_extensions", "_held", "_in_trailers", "_is_between", "_left")

    def __init__(self) -> None:
        super().__init__()
        self._left = 0  # bytes of the chunk under way, with the CR LF after it; 0: a size is next
        self._held = b""  # of a line that is not whole
        self._in_trailers = False
        self._extensions = 0
        self._is_between = True  # nothing of a line or of a chunk came, and a size is next

    def feed(self, data: bytes) -> bytes:
        if self._is_between:  # by far the most of a stream: one chunk, whole
            whole = _WHOLE.get(len(data)) or _whole(len(data))
            if whole is not None:
                line, start = whole
                if data.startswith(line) and data[-1] == 10 and data[-2] == 13:
                    self.verbatim = True
                    return data[start:-2]
        return self._feed(data)

    def _feed(self, data: bytes) -> bytes:
        verbatim = self._is_between
        if self._held:
            data, self._held = self._held + data, b""
        pieces: list[bytes] = []
        position, size, left = 0, len(data), self._left
        while position < size:
            if left:
                position, left = self._data(data, position, left, pieces)
                continue
            if self._in_trailers:
                self._trailers(data, position)
                self.verbatim = False
                break
            end = data.find(b"\r\n", position, position + MAX_SIZE_LINE)
            if end < 0:
                self._hold(data[position:])
                break
            line = data[position:end]
            position = end + 2
            if not _SIZE.fullmatch(line):
                line = self._without_extensions(line)
                verbatim = False
            length = int(line, 16)
            if length:
                left = length + 2
            else:
                self._in_trailers = True
                verbatim = False
                position -= 2  # the line end belongs to the blank line, if that comes at once
        self._left = left
        self._is_between = not left and not self._held and not self._in_trailers
        self.verbatim = verbatim and self._is_between
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _data(self, data: bytes, position: int, left: int, pieces: list[bytes]) -> tuple[int, int]:
        """Take what there is of a chunk and of the CR LF after it. Returns the new position, and what is left."""
        if left > 2:
            end = position + left - 2
            piece = data[position:end]
            pieces.append(piece)
            position += len(piece)
            left -= len(piece)
            if left > 2:
                return position, left
        while left and position < len(data):
            if data[position] != (13 if left == 2 else 10):
                raise BadHttp("a chunk is longer than it says")
            position += 1
            left -= 1
        return position, left

    def _hold(self, line: bytes) -> None:
        if len(line) >= MAX_SIZE_LINE:
            raise BadHttp("a chunk's size is too long a line")
        if b"\n" in line or b"\r" in line[:-1]:
            raise BadHttp("a chunk's size does not end with CR LF")
        self._held = line

    def _without_extensions(self, line: bytes) -> bytes:
        found = _SIZE_LINE.fullmatch(line)
        if found is None:
            raise BadHttp("a chunk's size is no number, or has an odd extension")
        size, extensions = found.groups()
        self._extensions += len(extensions)
        if self._extensions > MAX_EXTENSIONS:
            raise BadHttp("the chunks have too many extensions")
        return size

    def _trailers(self, data: bytes, position: int) -> None:
        """From the line end after the last size: nothing more, or header lines, and a blank line."""
        end = data.find(b"\r\n\r\n", position)
        if end < 0 or end - position > MAX_TRAILERS:
            if len(data) - position > MAX_TRAILERS:
                raise BadHttp("the trailers are too large")
            self._held = data[position:]
            return
        if end > position:
            fields, by_name = read_fields(data[position + 2 : end].split(b"\r\n"))
            if not _FRAMING.isdisjoint(by_name):
                raise BadHttp("a trailer frames the message, or names its host")
            self.trailers = [field.line for field in fields if field.name not in _NOT_IN_TRAILERS]
        self.done = True
        self.rest = data[end + 4 :]


def _whole(size: int) -> tuple[bytes, int] | None:
    """See _WHOLE. None where no chunk has that size, or the size is not looked up."""
    if size > _MAX_WHOLE:
        return None
    for digits in range(1, 4):
        length = size - digits - 4
        line = b"%x\r\n" % length
        if length > 0 and len(line) == digits + 2:
            found = _WHOLE[size] = line, digits + 2
            return found
    return None


def chunk(payload: bytes) -> bytes:
    """A chunk to be written. Not for an empty payload: that one would end the body."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def last_chunk(trailers: list[bytes]) -> bytes:
    return b"0\r\n%b\r\n" % b"".join([line + b"\r\n" for line in trailers])
