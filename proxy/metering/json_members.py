"""Where the members of a JSON object stand in its bytes, so that one can be changed and the rest left as it was.

A scanner, not a parser: it finds the ends of values and believes that they are well formed. Who needs that to be true
decodes them as well. The work is done by a few regular expressions with possessive quantifiers: they never go back,
so they are linear in the input.
"""

import re
from typing import Final, NamedTuple

import msgspec

# The four blanks of JSON (RFC 8259), neither more nor less: \s would take others too.
BLANKS = b" \t\n\r"
_BLANK: Final = rb"[ \t\n\r]*+"
_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_INSIDE: Final = rb'[^"\[\]{}]++|' + _STRING
# Deeper than any request or chunk of sense (a chunk with all its logprobs is 9 deep). Brackets without end must not
# take time without end: what is deeper is not looked into.
_DEPTH: Final = 64


def _container(depth: int) -> bytes:
    pattern = rb"[\[{](?:" + _INSIDE + rb")*+[\]}]"
    for _ in range(depth - 1):
        pattern = rb"[\[{](?:" + _INSIDE + rb"|" + pattern + rb")*+[\]}]"
    return pattern


_OPENING: Final = re.compile(_BLANK + rb"\{" + _BLANK)
_MEMBER: Final = re.compile(
    rb"(%b)%b:%b(%b|[^ \t\n\r\",:\[\]{}]++|%b)%b([,}])%b"
    % (_STRING, _BLANK, _BLANK, _STRING, _container(_DEPTH), _BLANK, _BLANK),
    re.DOTALL,
)

_TEXT: Final = msgspec.json.Decoder(str)


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
    """The object that `data` is, or None when it is something else, more than one thing, cut off, or too deep."""
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
            member = _MEMBER.match(data, position)
            if member is None:
                return None
            members.append(Member(_plain(member.group(1)), position, *member.span(2)))
            if member.group(3) == b"}":
                closing = member.start(3)
                break
            position = member.end()
    if data[closing + 1 :].strip(BLANKS):
        return None
    return Object(opening, closing, tuple(members))


def _plain(quoted: bytes) -> bytes:
    """A key without its quotes and escapes. One that cannot be read stays as it is: it is nobody's key."""
    if b"\\" not in quoted:
        return quoted[1:-1]
    try:
        return _TEXT.decode(quoted).encode()
    except ValueError:
        return quoted
