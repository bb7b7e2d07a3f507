"""A chunk that comes whole is read at once; it must come to the same as one that comes in pieces."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.http1 import BadHttp
from proxy.http1.bodies import Chunked, chunk


def read(pieces: list[bytes]) -> tuple[bytes, bool] | str:
    """(the payload, whether the body is done), or the refusal."""
    body = Chunked()
    try:
        return b"".join([body.feed(piece) for piece in pieces]), body.done
    except BadHttp as error:
        return str(error)


@pytest.mark.parametrize("size", [1, 2, 9, 10, 15, 16, 17, 255, 256, 257, 2035, 2040, 2048, 4095, 4096, 65_537])
def test_every_size_goes_on_as_it_stands(size: int) -> None:
    body, payload = Chunked(), b"x" * size
    for _ in range(2):
        assert body.feed(chunk(payload)) == payload
        assert body.verbatim


@pytest.mark.parametrize("line", [b"00a", b"A", b"0A"])
def test_other_ways_to_write_a_size(line: bytes) -> None:
    body = Chunked()
    assert body.feed(line + b"\r\n0123456789\r\n") == b"0123456789"
    assert body.verbatim


def test_an_extension_does_not_go_on() -> None:
    body = Chunked()
    assert body.feed(b"a;x=1\r\n0123456789\r\n") == b"0123456789"
    assert not body.verbatim
    assert body.feed(b"1\r\na\r\n") == b"a"
    assert body.verbatim


PIECES = st.lists(
    st.sampled_from(
        [b"1", b"a", b"10", b"0", b"\r\n", b"\r", b"\n", b"x", b"0123456789", b"0123456789abcdef", b"1\r\nx\r\n"]
    )
    | st.builds(chunk, st.binary(min_size=1, max_size=40)),
    max_size=8,
)


@given(pieces=PIECES)
@example(pieces=[b"1\r\nx\r\n", b"1\r\n\r\n\r\n"])
@example(pieces=[b"2\r\nx\r\n"])
def test_the_same_in_pieces(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    byte_by_byte = read([data[at : at + 1] for at in range(len(data))])
    if isinstance(byte_by_byte, str) or byte_by_byte[1]:  # nothing more may be fed
        assert isinstance(read([data]), str) == isinstance(byte_by_byte, str)
        return
    assert read([data]) == read([piece for piece in pieces if piece]) == byte_by_byte
