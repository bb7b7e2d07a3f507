"""Heads of requests and responses, and what they say about the body that follows (RFC 9112 § 3, 4 and 6)."""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final

from proxy.http1.bodies import Body, Chunked, Empty, Length, UntilClose
from proxy.http1.fields import BadHttp, Field, read_fields

MAX_HEAD = 64 * 1024
"""Bytes of a whole head; the API's own stay far below."""

# Methods are words in capitals. A target is a path (RFC 9112 § 3.2.1): its characters are those of RFC 3986, and some
# that clients send all the same; never a quote, a backslash or a fragment.
_REQUEST_LINE: Final = re.compile(rb"([A-Z][A-Z-]{0,31}) (/[!$-;=?-\[\]^_`a-z{|}~]*) HTTP/1\.([01])")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?")
_LENGTH: Final = re.compile(rb"[0-9]{1,15}")  # below 2 ** 53: whoever reads it reads the same number
# A name or an address, and a port.
_HOST: Final = re.compile(
    rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+(?:%25[A-Za-z0-9._~-]+)?\])(?::[0-9]{0,5})?"
)
_BLANKS: Final = b" \t"


def end_of_head(data: bytes, searched: int = 0) -> int:
    """Where the head ends, its blank line included; -1 when that has not come. Raises BadHttp when it is too large.

    `searched`: so many bytes were looked through before.
    """
    end = data.find(b"\r\n\r\n", max(searched - 3, 0)) + 4
    if end > MAX_HEAD or (end < 4 and len(data) > MAX_HEAD):
        raise BadHttp(f"the head is larger than {MAX_HEAD} bytes")
    return end if end >= 4 else -1


_NO_OPTIONS: Final[frozenset[bytes]] = frozenset()
_SHORT: Final = 64  # bytes


@lru_cache(maxsize=64)
def _options(value: bytes) -> frozenset[bytes]:
    return frozenset(option.strip(_BLANKS).lower() for option in value.split(b","))


@lru_cache(maxsize=256)
def _raw_name(name: str) -> bytes:
    return name.lower().encode("latin-1", "replace")


class _Head(Mapping[str, str]):
    """As a mapping: the first value of each name, whatever its case."""

    __slots__ = ("_by_name", "fields")

    def __init__(self, fields: list[Field], by_name: dict[bytes, bytes]) -> None:
        self.fields = fields
        self._by_name = by_name

    def __getitem__(self, name: str) -> str:
        return self._by_name[_raw_name(name)].decode("utf-8", "surrogateescape")

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
        value = self._by_name.get(_raw_name(name))
        return default if value is None else value.decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return (name.decode() for name in self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def raw(self, name: bytes) -> bytes | None:
        """The first value of a name in lower case, as it came."""
        return self._by_name.get(name)

    def connection_options(self) -> frozenset[bytes]:
        """What all `connection` lines name, in lower case."""
        value = self._by_name.get(b"connection")
        if value is None:
            return _NO_OPTIONS
        if len(self._by_name) != len(self.fields):
            value = b",".join([field.value for field in self.fields if field.name == b"connection"])
        return _options(value) if len(value) <= _SHORT else _options.__wrapped__(value)


class RequestHead(_Head):
    """A request's head. `options` are what its `connection` names. It does not change: many requests may share it."""

    __slots__ = (
        "chunked",
        "expects_continue",
        "is_1_1",
        "length",
        "memo",
        "method",
        "options",
        "persistent",
        "target",
        "upgrade",
    )

    def __init__(
        self, fields: list[Field], by_name: dict[bytes, bytes], method: str, target: str, *, is_1_1: bool
    ) -> None:
        super().__init__(fields, by_name)
        self.method = method
        self.target = target
        """Raw path and query."""
        self.is_1_1 = is_1_1
        self.chunked = self.expects_continue = self.upgrade = False
        self.length = 0
        self.memo: object = None
        """What its server has found out from it; gone with it."""
        self.options = self.connection_options()
        self.persistent = is_1_1 and b"close" not in self.options
        self._read_framing()

    def _read_framing(self) -> None:
        get = self._by_name.get
        host = get(b"host")
        if host is None:
            if self.is_1_1:
                raise BadHttp("the header host is missing")
        elif not _HOST.fullmatch(host):
            raise BadHttp("the header host is no name and no address")
        length, transfer = get(b"content-length"), get(b"transfer-encoding")
        if length is not None or transfer is not None:
            self.length, self.chunked = _framing(length, transfer, is_1_1=self.is_1_1)
        expected = get(b"expect")
        if expected is not None:
            if expected.lower() != b"100-continue":
                raise BadHttp("the header expect can only be 100-continue")
            self.expects_continue = self.is_1_1
        if b"upgrade" in self.options and self.is_1_1:
            # Others (h2c above all) would carry requests past all that is checked here.
            self.upgrade = (get(b"upgrade") or b"").lower() == b"websocket"
            if self.upgrade and (self.method != "GET" or self.has_body):
                raise BadHttp("an upgrade to websocket is a GET without a body")

    @property
    def has_body(self) -> bool:
        return self.chunked or self.length > 0

    def body(self) -> Body:
        if self.chunked:
            return Chunked()
        return Length(self.length) if self.length else Empty()


class ResponseHead(_Head):
    """A response's head. `length` None: its body is in chunks, or ends with the connection, or there is none.

    `options` are what its `connection` names.
    """

    __slots__ = ("_bodiless", "chunked", "is_1_1", "length", "options", "persistent", "reason", "status", "switches")

    def __init__(
        self, fields: list[Field], by_name: dict[bytes, bytes], status: int, reason: bytes, *, is_1_1: bool, method: str
    ) -> None:
        super().__init__(fields, by_name)
        self.status = status
        self.reason = reason
        self.is_1_1 = is_1_1
        length, transfer = by_name.get(b"content-length"), by_name.get(b"transfer-encoding")
        given, self.chunked = _framing(length, transfer, is_1_1=is_1_1)
        self.length = None if length is None else given
        self._bodiless = method == "HEAD" or status in (204, 304) or status < 200
        if self.chunked and (status == 204 or status < 200):
            raise BadHttp("a response without a body has a transfer-encoding")
        self.switches = False
        options = self.options = self.connection_options()
        self.persistent = is_1_1 and b"close" not in options
        if status == 101:
            self.switches = b"upgrade" in options and (by_name.get(b"upgrade") or b"").lower() == b"websocket"

    @property
    def is_interim(self) -> bool:
        return self.status < 200 and self.status != 101

    @property
    def has_body(self) -> bool:
        return not self._bodiless

    def body(self) -> Body:
        if self._bodiless:
            return Empty()
        if self.chunked:
            return Chunked()
        if self.length is not None:
            return Length(self.length) if self.length else Empty()
        return UntilClose()


def _framing(length: bytes | None, transfer: bytes | None, *, is_1_1: bool) -> tuple[int, bool]:
    """(content-length or 0, chunked). Never both, never a list, never another coding: readers differ in these."""
    if transfer is not None:
        if length is not None:
            raise BadHttp("the message has a content-length and a transfer-encoding")
        if not is_1_1:
            raise BadHttp("an HTTP/1.0 message has a transfer-encoding")
        if transfer.lower() != b"chunked":
            raise BadHttp("the transfer-encoding is not chunked")
        return 0, True
    if length is None:
        return 0, False
    if not _LENGTH.fullmatch(length):
        raise BadHttp("the content-length is no number")
    return int(length), False


def read_request(head: bytes) -> RequestHead:
    """A whole head, its blank line included. Raises BadHttp."""
    line, *lines = head[:-4].split(b"\r\n")
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        raise BadHttp(_why_no_request(line))
    method, target, minor = found.groups()
    fields, by_name = read_fields(lines)
    return RequestHead(fields, by_name, method.decode(), target.decode(), is_1_1=minor == b"1")


def read_response(head: bytes, method: str) -> ResponseHead:
    """A whole head, its blank line included; `method` of the request that it answers. Raises BadHttp."""
    line, *lines = head[:-4].split(b"\r\n")
    found = _STATUS_LINE.fullmatch(line)
    if found is None:
        raise BadHttp("the status line is none")
    minor, status, reason = found.groups()
    fields, by_name = read_fields(lines)
    return ResponseHead(fields, by_name, int(status), reason or b"", is_1_1=minor == b"1", method=method)


def _why_no_request(line: bytes) -> str:
    parts = line.split(b" ")
    if len(parts) != 3 or not re.fullmatch(rb"[A-Z][A-Z-]{0,31}", parts[0]):
        return "the request line is none"
    if parts[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        return "only HTTP/1.1 is spoken here"
    if not parts[1].startswith(b"/"):
        return "the request names no path: taximeter is no forward proxy, point the client's base_url at it"
    return "the path has a character that no path has"
