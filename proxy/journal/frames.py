"""Frames: how records lie in a file, and where a file ceases to be readable. No I/O.

    kind (1 byte), length of the payload (u32), CRC-32 of kind, length and payload (u32), payload; big-endian

A payload is one record in msgpack, and the first record of a file is a BASE. What is cut, or fails its checksum, ends
the reading: behind it nothing is looked for, because a payload may hold what a client sent, and that may look like a
frame.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Literal
from zlib import crc32

import msgspec

VERSION = 1
OPEN, DONE, DROP, BASE = b"O", b"D", b"X", b"B"

_HEAD = Struct(">cII")
_START = Struct(">cI")


@dataclass(frozen=True, slots=True)
class Opened:
    """A request is about to be sent."""

    entry_id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Done:
    """It has ended. The store applies `number` after `number` - 1."""

    number: int
    entry_id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Dropped:
    """It was never sent."""

    entry_id: str


@dataclass(frozen=True, slots=True)
class Base:
    """What held before this segment."""

    writer: str
    number: int
    open: dict[str, bytes]


class UnknownRecord(Exception):  # noqa: N818 - a finding
    """A whole frame, but not of this version's making: it must be neither guessed at nor thrown away."""


Record = Opened | Done | Dropped | Base

_encode = msgspec.msgpack.Encoder().encode
_decode_opened = msgspec.msgpack.Decoder(tuple[str, bytes]).decode
_decode_done = msgspec.msgpack.Decoder(tuple[int, str, bytes]).decode
_decode_dropped = msgspec.msgpack.Decoder(str).decode
_decode_base = msgspec.msgpack.Decoder(tuple[Literal[1], str, int, dict[str, bytes]]).decode


def opened(entry_id: str, body: bytes) -> bytes:
    return _frame(OPEN, _encode((entry_id, body)))


def done(number: int, entry_id: str, body: bytes) -> bytes:
    return _frame(DONE, _encode((number, entry_id, body)))


def dropped(entry_id: str) -> bytes:
    return _frame(DROP, _encode(entry_id))


def base(writer: str, number: int, open_: dict[str, bytes]) -> bytes:
    return _frame(BASE, _encode((VERSION, writer, number, open_)))


def _frame(kind: bytes, payload: bytes) -> bytes:
    size = len(payload)
    return _HEAD.pack(kind, size, crc32(payload, crc32(_START.pack(kind, size)))) + payload


def read(data: bytes) -> Iterator[tuple[Record, int]]:
    """The whole records from the beginning on, each with the position at which it ends. Raises UnknownRecord."""
    view = memoryview(data)
    position = 0
    while position + _HEAD.size <= len(view):
        kind, size, checksum = _HEAD.unpack_from(view, position)
        end = position + _HEAD.size + size
        payload = view[end - size : end]
        if len(payload) < size or checksum != crc32(payload, crc32(_START.pack(kind, size))):
            return
        try:
            record = _decoded(kind, payload)
        except msgspec.MsgspecError as error:
            raise UnknownRecord(str(error)) from None
        if position == 0 and not isinstance(record, Base):
            raise UnknownRecord("it does not begin with a BASE record")
        yield record, end
        position = end


def _decoded(kind: bytes, payload: memoryview) -> Record:
    """The record. Raises MsgspecError for what this version cannot read."""
    if kind == DONE:
        return Done(*_decode_done(payload))
    if kind == OPEN:
        return Opened(*_decode_opened(payload))
    if kind == DROP:
        return Dropped(_decode_dropped(payload))
    if kind == BASE:
        _, writer, number, open_ = _decode_base(payload)
        return Base(writer, number, open_)
    raise msgspec.ValidationError(f"unknown kind {kind!r}")
