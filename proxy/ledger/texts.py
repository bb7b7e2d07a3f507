"""Records as JSON text, and moments as they stand in them."""

from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

encode = msgspec.json.Encoder().encode
_MILLISECONDS: Final = tuple(f"{number:03}Z" for number in range(1000))
_SECOND: Final = timedelta(seconds=1)


def text(record: msgspec.Struct) -> str:
    """As JSON, in a text: the server's MessagePack knows no bytes."""
    try:
        return encode(record).decode()
    except UnicodeEncodeError:  # half a surrogate pair, say in a header: no text, but no reason to lose a charge
        texts = {name: value for name in record.__struct_fields__ if isinstance(value := getattr(record, name), str)}
        plain_texts = {name: plain(value) for name, value in texts.items()}
        return encode(msgspec.structs.replace(record, **plain_texts)).decode()


def plain(given: str) -> str:
    """Without half a surrogate pair, which is no text and may stand in what a caller sends."""
    return given if given.isascii() else given.encode(errors="replace").decode()


def plain_or_none(given: str | None) -> str | None:
    return given if given is None or given.isascii() else plain(given)


def members(**values: object) -> msgspec.Raw:
    """Members of an object that stand together, as its encoder writes them, but for the name of the first."""
    name = next(iter(values))
    return msgspec.Raw(encode(values)[len(name) + 4 : -1])  # {"name":


def items(*values: object) -> msgspec.Raw:
    """Items of an array that stand together, as its encoder writes them."""
    return msgspec.Raw(encode(values)[1:-1])


class _Seconds:
    """The second that was written last: most moments that are written lie in it too."""

    __slots__ = ("last",)

    def __init__(self) -> None:
        beginning = datetime.min.replace(tzinfo=UTC)
        self.last = (beginning, beginning, "")


_seconds = _Seconds()


def utc_text(at: datetime) -> str:
    """A moment as entries carry it: UTC, RFC 3339, milliseconds."""
    begins, ends, shown = _seconds.last
    if at.tzinfo is not UTC:
        at = at.astimezone(UTC)
    if not begins <= at < ends:
        begins = at.replace(microsecond=0)
        shown = begins.isoformat()[:-6] + "."
        if begins <= _LAST_BUT_ONE:
            _seconds.last = (begins, begins + _SECOND, shown)
    return shown + _MILLISECONDS[at.microsecond // 1000]


_LAST_BUT_ONE: Final = datetime.max.replace(tzinfo=UTC) - _SECOND
