"""A compressed reply that turns into garbage is read up to there, however it was cut."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.metering.decoding import inflater_for


def decoded(pieces: list[bytes], encoding: str) -> tuple[bytes, bool]:
    inflater = inflater_for(encoding)
    assert inflater is not None
    return b"".join(part for piece in pieces for part in inflater.feed(piece)), inflater.failed


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
@given(
    text=st.binary(max_size=300), place=st.floats(0, 1), garbage=st.binary(min_size=1, max_size=6), cut=st.floats(0, 1)
)
def test_garbage(encoding: str, compress: object, text: bytes, place: float, garbage: bytes, cut: float) -> None:  # fmt: skip
    assert callable(compress)
    data: bytes = compress(text)
    at = round(place * len(data))
    data = data[:at] + garbage + data[at + len(garbage) :]
    split = round(cut * len(data))
    whole = decoded([data], encoding)
    assert decoded([data[:split], data[split:]], encoding) == whole
    assert decoded([data[i : i + 1] for i in range(len(data))], encoding) == whole
