"""Where the members of a JSON object stand in its bytes, so that one can be changed and the rest left as it was.

A scanner, not a parser: it finds the ends of values and believes that they are well formed. Who needs that to be true
decodes them as well. The work is done by a few regular expressions with possessive quantifiers: they never go back,
so they are linear in the input.
"""

import re
from typing import NamedTuple

import msgspec

# The four blanks of JSON (RFC 8259), neither more nor less: \s would take others too.
BLANKS = b" \t\n\r"
_BLANK = rb"[ \t\n\r]*+"
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_INSIDE = rb'[^"\[\]{}]++|' + _STRING
# Values nested no deeper than this are skipped in one step: a chat chunk with all its logprobs is 9 deep.
_DEPTH = 12


def _container(depth: int) -> bytes:
    pattern = rb"[\[{](?:" + _INSIDE + rb")*+[\]}]"
    for _ in range(depth - 1):
        pattern = rb"[\[{](?:" + _INSIDE + rb"|" + pattern + rb")*+[\]}]"
    return pattern


_OPENING = re.compile(_BLANK + rb"\{" + _BLANK)
_KEY = re.compile(rb"(" + _STRING + rb")" + _BLANK + rb":" + _BLANK, re.DOTALL)
_VALUE = re.compile(_STRING + rb'|[^ \t\n\r",:\[\]{}]++|' + _container(_DEPTH), re.DOTALL)
_NEXT = re.compile(_BLANK + rb"([,}])" + _BLANK)
_RUN = re.compile(rb"(?:" + _INSIDE + rb"|" + _container(_DEPTH) + rb")*+", re.DOTALL)

_TEXT = msgspec.json.Decoder(str)


class Member(NamedTuple):
    """`"key": value`. Offsets are of the key's first quote, the value's first byte, and the byte after it."""

    key: bytes
    start: int
    value: int
    end: int


class Object(NamedTuple):
    """Offsets of the two braces, and the members in their order; a key can stand there twice."""

    opening: int
    closing: int
    members: tuple[Member, ...]

    def last(self, key: bytes) -> Member | None:
        """The member that counts: of two with the same key the last one wins, as in every common parser."""
        return next((member for member in reversed(self.members) if member.key == key), None)


def scan_object(data: bytes) -> Object | None:
    """The object that `data` is, or None when it is something else, or more than one thing, or cut off."""
    opened = _OPENING.match(data)
    if opened is None:
        return None
    position = opened.end()
    opening = data.index(b"{", opened.start())
    members: list[Member] = []
    if data[position : position + 1] == b"}":
        closing = position
    else:
        while True:
            key = _KEY.match(data, position)
            end = None if key is None else _end_of_value(data, key.end())
            after = None if end is None else _NEXT.match(data, end)
            if key is None or end is None or after is None:
                return None
            members.append(Member(_plain(key.group(1)), position, key.end(), end))
            if after.group(1) == b"}":
                closing = after.start(1)
                break
            position = after.end()
    if data[closing + 1 :].strip(BLANKS):
        return None
    return Object(opening, closing, tuple(members))


def _end_of_value(data: bytes, position: int) -> int | None:
    value = _VALUE.match(data, position)
    if value is not None:
        return value.end()
    if data[position : position + 1] not in (b"[", b"{"):
        return None
    # Deeper than _DEPTH: count the brackets that the pattern could not pair.
    depth = 0
    while position < len(data):
        depth += 1 if data[position] in b"[{" else -1
        position += 1
        if depth == 0:
            return position
        run = _RUN.match(data, position)
        position = run.end() if run is not None else position
        if data[position : position + 1] not in (b"[", b"{", b"]", b"}"):
            return None
    return None


def _plain(quoted: bytes) -> bytes:
    """A key without its quotes and escapes. One that cannot be read stays as it is: it is nobody's key."""
    if b"\\" not in quoted:
        return quoted[1:-1]
    try:
        return _TEXT.decode(quoted).encode()
    except ValueError:
        return quoted
