"""Header lines (RFC 9110 § 5): what stands in one, and what may be written into one.

Accepted is `name: value` with a name of token characters, a value without control bytes but tabs, and CR LF at the end.
Not accepted is everything that other readers repair each in its own way: a blank before the colon, a folded line, a
bare CR or LF, a NUL.
"""

import re
from typing import Final, NamedTuple

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")

# RFC 9110 § 5.3: these have one value; of two, each reader picks its own. Keys too: who pays must not be a choice.
_SINGLE: Final = frozenset(
    {
        b"host", b"content-length", b"transfer-encoding", b"expect", b"content-encoding", b"content-type",
        b"authorization", b"api-key", b"x-api-key", b"upgrade",
    }
)  # fmt: skip
# CGI-like servers read `_` as `-`: for them these frame the message, or say whose it is.
_DISGUISED: Final = frozenset(
    name.replace(b"-", b"_")
    for name in (b"content-length", b"transfer-encoding", b"content-encoding", b"api-key", b"x-api-key")
)


class BadHttp(Exception):  # noqa: N818 - an answer, not a fault
    """What came is not HTTP/1.1 as it is understood here. The message never repeats a value."""


class InvalidField(ValueError):  # noqa: N818
    """A name or value that no header line can hold: writing it would end the line, or the head."""


class Field(NamedTuple):
    """One header line. `name` is in lower case; `line` is the whole line as it came, without its CR LF."""

    name: bytes
    value: bytes
    line: bytes


def read_fields(lines: list[bytes]) -> tuple[list[Field], dict[bytes, bytes]]:
    """The fields in order, and by name the first value of each. `lines` were cut at CR LF.

    Raises BadHttp.
    """
    fields = [_SEEN.get(line) or _new_field(line) for line in lines]
    by_name = {field[0]: field[1] for field in fields}
    if len(by_name) != len(fields):
        _refuse_doubled(fields)
        by_name = {field.name: field.value for field in reversed(fields)}
    return fields, by_name


def _field(line: bytes) -> Field:
    name, colon, value = line.partition(b":")
    if name[:1] in (b" ", b"\t"):
        raise BadHttp("a header line is folded")
    if not colon:
        raise BadHttp("a header line has no colon")
    lower = _NAMES.get(name) or _new_name(name)
    if not _VALUE.fullmatch(value):
        if b"\r" in value or b"\n" in value:
            raise BadHttp("a line of the head does not end with CR LF")
        raise BadHttp("a control character stands in the head")
    return Field(lower, value.strip(b" \t"), line)


def _new_name(name: bytes) -> bytes:
    """In lower case. Raises BadHttp."""
    if not _TOKEN.fullmatch(name):
        raise BadHttp("a header's name is empty, or has a character that no name has")
    lower = name.lower()
    if lower in _DISGUISED:
        raise BadHttp(f"the header {lower.decode()} is written with _ instead of -")
    if len(name) <= _LONGEST_NAME:
        if len(_NAMES) >= _MOST_NAMES:
            _NAMES.clear()
        _NAMES[name] = lower
    return lower


_MOST_NAMES: Final = 512
_LONGEST_NAME: Final = 64  # bytes
_NAMES: Final[dict[bytes, bytes]] = {}  # in lower case, by how they are written

# Of a message's lines nearly all came before, from the same clients and upstreams: each is looked at once. A line is
# remembered when it comes for the second time: ids and times never do.
_MOST_SEEN, _LONGEST_SEEN = 2048, 256  # lines; bytes
_SEEN: Final[dict[bytes, Field]] = {}
_ONCE: Final[set[int]] = set()


def _new_field(line: bytes) -> Field:
    field = _field(line)
    if len(line) <= _LONGEST_SEEN:
        mark = hash(line)
        if mark in _ONCE:
            if len(_SEEN) >= _MOST_SEEN:
                _SEEN.clear()
            _SEEN[line] = field
        else:
            if len(_ONCE) >= _MOST_SEEN:
                _ONCE.clear()
            _ONCE.add(mark)
    return field


def _refuse_doubled(fields: list[Field]) -> None:
    names = [field.name for field in fields]
    for name in _SINGLE:
        if names.count(name) > 1:
            raise BadHttp(f"the header {name.decode()} stands there twice")


def field_line(name: str, value: str) -> bytes:
    """A header line to be written, without its CR LF. Raises InvalidField: nothing may end the line but its end."""
    raw_name, raw_value = name.encode("latin-1", "replace"), value.encode("utf-8", "surrogateescape")
    if not _TOKEN.fullmatch(raw_name):
        raise InvalidField(f"{name!r} is no name of a header")
    if not _VALUE.fullmatch(raw_value):
        raise InvalidField(f"the value for the header {name} has a character that no header may have")
    return raw_name + b": " + raw_value
