"""Server-sent events (WHATWG HTML, § 9.2), cut into blocks without losing a byte.

A block is what stands between two blank lines, with its blank line. The pieces that an EventCutter gives back, and then
its `rest`, join up to exactly its input, however that was split.
"""

import re
from enum import Enum, auto
from typing import Final, NamedTuple

MAX_EVENT = 16 * 1024 * 1024
"""Bytes. A larger event is passed on in pieces, unread."""

BOM = b"\xef\xbb\xbf"
"""May stand at the very start of a stream; it is not part of the first line."""

# The end of two line ends in a row. Of the four pairs of \r and \n only \r\n is a single line end.
_BLANK_LINE: Final = re.compile(rb"\n\n|[\r\n]\r\n?")
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_BEFORE_LAST: Final = 3  # bytes of a blank line that can have come before its last one


class Kind(Enum):
    EVENT = auto()
    """A whole block. One that is only a blank line has no data, and is a block too."""
    UNREAD = auto()
    """A piece of a block that is too large to be kept."""
    LATE_LF = auto()
    """The \\n of a \\r\\n that ended the block before: at the \\r nobody could know that it would come."""


class Piece(NamedTuple):
    kind: Kind
    data: bytes


class DataLine(NamedTuple):
    """A `data` line of a block: where it starts, where its value starts and ends, and where the next line starts."""

    start: int
    value: int
    value_end: int
    end: int


class EventCutter:
    """Cuts a stream into blocks. Linear in its input; holds at most one unfinished block of `max_event` bytes."""

    def __init__(self, max_event: int = MAX_EVENT) -> None:
        self._max_event = max_event
        self._held = bytearray()
        # The last bytes that were passed on of a block that is too large; None when there is no such block.
        self._passed: bytes | None = None
        self._after_cr = False

    @property
    def between_events(self) -> bool:
        """Nothing is held, and what comes next starts a block."""
        return not self._held and self._passed is None and not self._after_cr

    def feed(self, data: bytes) -> list[Piece]:
        pieces: list[Piece] = []
        if self._after_cr and data:
            self._after_cr = False
            if data.startswith(b"\n"):
                pieces.append(Piece(Kind.LATE_LF, b"\n"))
                data = data[1:]
        if self._passed is not None:
            data = self._pass_on(self._passed, data, pieces)
        elif self._held:
            data = self._finish_held(data, pieces)
        begin, size = 0, len(data)
        while begin < size:
            end = _end_of_block(data, begin, begin)
            if end is None:
                self._held += data[begin:]
                break
            pieces.append(self._block(data[begin:end]))
            begin = end
        if len(self._held) > self._max_event:
            self._passed = bytes(self._held[-_BEFORE_LAST:])
            pieces.append(Piece(Kind.UNREAD, self.rest()))
        if pieces and self.between_events:
            self._after_cr = pieces[-1].data.endswith(b"\r")
        return pieces

    def rest(self) -> bytes:
        """What is held: at the end of a stream, the event that lacks its blank line. It is forgotten here."""
        rest = bytes(self._held)
        self._held.clear()
        return rest

    def _block(self, block: bytes) -> Piece:
        size = len(block) - block.endswith(b"\r\n")  # the \n may come late: it must not decide
        return Piece(Kind.EVENT if size <= self._max_event else Kind.UNREAD, block)

    def _finish_held(self, data: bytes, pieces: list[Piece]) -> bytes:
        """Cut off the block that was begun before, if it ends here. Returns what comes after it."""
        seam = len(self._held)
        self._held += data
        end = _end_of_block(self._held, 0, max(seam - _BEFORE_LAST, 0))
        if end is None:
            return b""
        pieces.append(self._block(bytes(self._held[:end])))
        after = bytes(self._held[end:])
        self._held.clear()
        return after

    def _pass_on(self, passed: bytes, data: bytes, pieces: list[Piece]) -> bytes:
        """Pass on the block that is too large, up to its end. Returns what comes after it."""
        found = _end_of_blank_line(passed + data, 0)
        if found is None:
            if data:
                pieces.append(Piece(Kind.UNREAD, data))
                self._passed = (passed + data)[-_BEFORE_LAST:]
            return b""
        end = found - len(passed)
        pieces.append(Piece(Kind.UNREAD, data[:end]))
        self._passed = None
        return data[end:]


def is_one_line(block: bytes) -> bool:
    r"""It is one line and a blank one, both ended by \n: nearly all are."""
    return block.find(10) == len(block) - 2 and block[-1] == 10 and 13 not in block


def data_of(block: bytes) -> bytes | None:
    r"""What a block says: the values of its `data` lines, joined by \n; None when it has none."""
    if block.startswith(b"data: ") and is_one_line(block):
        return block[6:-2]
    lines = data_lines(block)
    return b"\n".join([block[line.value : line.value_end] for line in lines]) if lines else None


def data_lines(block: bytes) -> list[DataLine]:
    lines: list[DataLine] = []
    for start, line_end, end in _lines(block):
        if not block.startswith(b"data", start):
            continue
        value = start + 4
        if value < line_end:
            if block[value] != 0x3A:  # a colon; anything else is another field
                continue
            value += 2 if block.startswith(b" ", value + 1) and value + 1 < line_end else 1
        lines.append(DataLine(start, value, line_end, end))
    return lines


def comments_of(block: bytes) -> bytes:
    """The comment lines of a block, with their line ends."""
    if block.startswith(b"data: ") and is_one_line(block):
        return b""
    return b"".join([block[start:end] for start, _, end in _lines(block) if block.startswith(b":", start)])


def _lines(block: bytes) -> list[tuple[int, int, int]]:
    """(start, end without, end with line end) of each line; the last one may lack its line end."""
    lines: list[tuple[int, int, int]] = []
    start = len(BOM) if block.startswith(BOM) else 0
    for found in _LINE_END.finditer(block):
        lines.append((start, found.start(), found.end()))
        start = found.end()
    if start < len(block):
        lines.append((start, len(block), len(block)))
    return lines


def _end_of_block(data: bytes | bytearray, begin: int, search_from: int) -> int | None:
    """Where the block that starts at `begin` ends, or None when its blank line is not there."""
    if data[begin] in b"\r\n":  # a blank line by itself
        return begin + (2 if data.startswith(b"\r\n", begin) else 1)
    return _end_of_blank_line(data, search_from)


def _end_of_blank_line(data: bytes | bytearray, search_from: int) -> int | None:
    end = data.find(b"\n\n", search_from)
    if data.find(b"\r", search_from, len(data) if end < 0 else end) < 0:  # by far the most
        return None if end < 0 else end + 2
    found = _BLANK_LINE.search(data, search_from)
    return None if found is None else found.end()
