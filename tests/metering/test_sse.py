"""Cutting loses no byte, and cuts at the same places however the bytes come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.metering.sse import EventCutter, Kind, comments_of, data_lines, data_of
from tests.metering.feeding import every_split, one_by_one


def blocks(pieces: list[bytes], max_event: int = 1000) -> list[bytes]:
    """The blocks, a late \\n put to the block that it belongs to; last what is left."""
    cutter, found = EventCutter(max_event), [b""]
    for piece in pieces:
        for kind, data in cutter.feed(piece):
            if kind is Kind.LATE_LF:
                found[-1] += data
            else:
                found.append(data)
    return [*found[1:], cutter.rest()]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", [b""]),
        (b"data: x", [b"data: x"]),
        (b"data: x\n", [b"data: x\n"]),
        (b"data: x\n\n", [b"data: x\n\n", b""]),
        (b"a\n\nb\n\nc", [b"a\n\n", b"b\n\n", b"c"]),
        (b"a\r\n\r\nb\r\n\r\n", [b"a\r\n\r\n", b"b\r\n\r\n", b""]),
        (b"a\r\rb\r\r", [b"a\r\r", b"b\r\r", b""]),
        (b"a\r\nb\r\n\r\n", [b"a\r\nb\r\n\r\n", b""]),
        (b"a\n\r\nb\r\n\nc\n\rd\r\r\n", [b"a\n\r\n", b"b\r\n\n", b"c\n\r", b"d\r\r\n", b""]),
        (b"\n\na\n\n\n\r\n\r", [b"\n", b"\n", b"a\n\n", b"\n", b"\r\n", b"\r", b""]),
    ],
)
def test_blocks(data: bytes, expected: list[bytes]) -> None:
    for pieces in [[data], one_by_one(data), *every_split(data)]:
        assert blocks(pieces) == expected


LINES = st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b"\n\n", b"a", b"bc", b"data: x", b": c"]), max_size=30)


@given(parts=LINES)
def test_any_lines(parts: list[bytes]) -> None:
    data = b"".join(parts)
    expected = blocks([data])
    assert b"".join(expected) == data
    assert blocks(parts) == blocks(one_by_one(data)) == expected


@given(parts=LINES, max_event=st.integers(1, 12))
def test_large_events_are_passed_on_in_pieces(parts: list[bytes], max_event: int) -> None:
    data = b"".join(parts)
    seen = []
    for pieces in ([data], one_by_one(data), parts):
        cutter = EventCutter(max_event)
        cut: list[tuple[Kind, bytes]] = []
        for kind, piece in [piece for fed in pieces for piece in cutter.feed(fed)]:
            if kind is Kind.LATE_LF:
                cut[-1] = (cut[-1][0], cut[-1][1] + piece)
            else:
                cut.append((kind, piece))
        rest = cutter.rest()
        assert len(rest) <= max_event
        assert b"".join(piece for _, piece in cut) + rest == data
        seen.append([piece for kind, piece in cut if kind is Kind.EVENT])
    assert seen[0] == seen[1] == seen[2]


def test_memory_is_bounded() -> None:
    cutter = EventCutter(1000)
    for _ in range(100):
        cutter.feed(b"x" * 999)
        assert len(cutter._held) <= 1000
    assert [kind for kind, _ in cutter.feed(b"\n\ndata: y\n\n")] == [Kind.UNREAD, Kind.EVENT]


def test_a_large_event_in_small_pieces_is_not_copied_again_and_again() -> None:
    cutter = EventCutter()
    for _ in range(100_000):
        assert cutter.feed(b"x" * 150) == []
    assert len(cutter.feed(b"\n\n")) == 1


@pytest.mark.parametrize(
    ("block", "data"),
    [
        (b"data: x\n\n", b"x"),
        (b"data:x\n\n", b"x"),
        (b"data:  x\n\n", b" x"),
        (b"data\n\n", b""),
        (b"data:\n\n", b""),
        (b"data: \n\n", b""),
        (b"data: x\r\n\r\n", b"x"),
        (b"data: x", b"x"),
        (b"data: a\ndata: b\n\n", b"a\nb"),
        (b"data: a\rdata: b\r\r", b"a\nb"),
        (b"data: a\r\nid: 1\r\ndata:b\r\n\r\n", b"a\nb"),
        (b"event: m\ndata: x\n\n", b"x"),
        (b": c\ndata: x\n\n", b"x"),
        (b"\xef\xbb\xbfdata: x\n\n", b"x"),
        (b": c\n\n", None),
        (b"id: 1\n\n", None),
        (b"database: x\n\n", None),
        (b" data: x\n\n", None),
        (b"Data: x\n\n", None),
        (b"\n", None),
        (b"", None),
    ],
)
def test_data(block: bytes, data: bytes | None) -> None:
    assert data_of(block) == data
    lines = data_lines(block)
    assert (b"\n".join(block[line.value : line.value_end] for line in lines) if lines else None) == data


def test_comments() -> None:
    assert comments_of(b": a\ndata: : b\r\n:c\r\r\n") == b": a\n:c\r"
    assert comments_of(b"data: x\n\n") == b""


@given(block=st.binary(max_size=60))
def test_any_block(block: bytes) -> None:
    data_of(block)
    comments_of(block)
