"""What proxy.http1 accepts, llhttp and h11 read the same way, or refuse: nobody behind or before us reads otherwise.

`make fuzz-http` runs the same for longer.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.http1.mutants import stream
from tests.http1.others import differences, llhttp, with_h11
from tests.http1.reading import cases, pieces_of, read


def check(raw: bytes, size: int, *, answers: bool) -> None:
    pieces = pieces_of(raw, size) or [b""]
    ours = read(pieces, answers=answers)
    for other in (llhttp, with_h11):
        found = differences(ours, other(pieces, answers=answers))
        assert not found, (other.__name__, raw, found)
    whole = read([raw], answers=answers)
    assert (whole.refused is None) == (ours.refused is None), raw
    if whole.refused is None:
        assert whole == ours, raw


@given(st.data(), st.integers(1, 2000))
@settings(max_examples=150, deadline=None)
def test_requests(data: st.DataObject, size: int) -> None:
    raw = stream(lambda below: data.draw(st.integers(0, below - 1)), answers=False)
    check(raw, size, answers=False)


@given(st.data(), st.integers(1, 2000))
@settings(max_examples=150, deadline=None)
def test_answers(data: st.DataObject, size: int) -> None:
    raw = stream(lambda below: data.draw(st.integers(0, below - 1)), answers=True)
    check(raw, size, answers=True)


def test_the_corpus() -> None:
    for file, answers in (("refused_requests.toml", False), ("read_requests.toml", False)):
        for case in cases(file):
            check(case.raw, 7, answers=answers)
