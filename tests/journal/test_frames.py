"""Frames: what was whole is read, and nothing else, whatever became of the file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.journal import frames
from proxy.journal.frames import Base, Done, Dropped, Opened, Record

ids = st.text(max_size=40)
bodies = st.binary(max_size=60)
records: st.SearchStrategy[Record] = st.one_of(
    st.builds(Opened, ids, bodies),
    st.builds(Done, st.integers(0, 2**64 - 1), ids, bodies),
    st.builds(Dropped, ids),
)
bases = st.builds(Base, ids, st.integers(0, 2**64 - 1), st.dictionaries(ids, bodies, max_size=3))
files = st.builds(lambda base, rest: [base, *rest], bases, st.lists(records, max_size=6))


def written(record: Record) -> bytes:
    match record:
        case Opened(entry_id, body):
            return frames.opened(entry_id, body)
        case Done(number, entry_id, body):
            return frames.done(number, entry_id, body)
        case Dropped(entry_id):
            return frames.dropped(entry_id)
        case Base(writer, number, open_):
            return frames.base(writer, number, open_)


def read(data: bytes) -> list[Record]:
    return [record for record, _ in frames.read(data)]


@given(files)
def test_what_is_written_is_read(file: list[Record]) -> None:
    pieces = [written(record) for record in file]
    ends = [sum(map(len, pieces[: count + 1])) for count in range(len(pieces))]
    assert list(frames.read(b"".join(pieces))) == list(zip(file, ends, strict=True))


@given(files)
def test_every_truncation_leaves_what_was_whole(file: list[Record]) -> None:
    pieces = [written(record) for record in file]
    data = b"".join(pieces)
    for length in range(len(data)):
        whole = 0
        while sum(map(len, pieces[: whole + 1])) <= length:
            whole += 1
        assert read(data[:length]) == file[:whole]


@given(files, st.integers(1, 255))
def test_every_flipped_byte_ends_the_reading_there(file: list[Record], flip: int) -> None:
    pieces = [written(record) for record in file]
    data = bytearray(b"".join(pieces))
    position = 0
    for whole, piece in enumerate(pieces):
        for at in range(position, position + len(piece)):
            data[at] ^= flip
            assert read(bytes(data)) == file[:whole]
            data[at] ^= flip
        position += len(piece)


def test_zeros_are_no_record() -> None:
    """A machine that stops may leave a file longer than what had reached it."""
    assert read(frames.base("w", 0, {}) + bytes(4096)) == [Base("w", 0, {})]


def test_a_record_inside_a_body_is_never_found() -> None:
    forged = frames.done(1, "forged", b"free of charge")
    data = frames.base("w", 0, {}) + frames.opened("e", b"x" + forged)
    damaged = data.replace(b"x" + forged[:1], b"y" + forged[:1])
    assert read(damaged + forged) == [Base("w", 0, {})]


@pytest.mark.parametrize(
    "strange",
    [
        frames._frame(b"N", b""),
        frames._frame(frames.OPEN, b"\x93\xa1e\x01\x02"),
        frames._frame(frames.BASE, frames._encode((2, "w", 0, {}))),
    ],
)
def test_what_another_version_wrote_is_neither_guessed_at_nor_thrown_away(strange: bytes) -> None:
    with pytest.raises(frames.UnknownRecord):
        read(frames.base("w", 0, {}) + strange)


def test_a_file_without_a_base_is_not_read() -> None:
    with pytest.raises(frames.UnknownRecord, match="BASE"):
        read(frames.opened("e", b""))
