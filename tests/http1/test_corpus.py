"""A corpus of smuggling and malformed messages: all refused, however they are cut; and what is read, read right."""

import pytest

from tests.http1.reading import Case, cases, pieces_of, read

REFUSED = cases("refused_requests.toml")
READ = cases("read_requests.toml")
BAD_ANSWERS = cases("refused_responses.toml")
# Too large for a file.
HOST = b"POST /v1/x HTTP/1.1\r\nHost: x\r\n"
CHUNKED = HOST + b"Transfer-Encoding: chunked\r\n\r\n"
LARGE = [
    Case("a header of 70,000 bytes", HOST + b"X: " + b"a" * 70_000 + b"\r\n\r\n"),
    Case("a head without an end", HOST + b"X: " + b"a" * 70_000),
    Case("a target of 70,000 bytes", b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
    Case("20,000 headers", HOST + b"".join(b"A%d: b\r\n" % number for number in range(20_000)) + b"\r\n"),
    Case("20,000 bytes of extensions", CHUNKED + (b"1;" + b"a" * 200 + b"\r\nx\r\n") * 100 + b"0\r\n\r\n"),
    Case("trailers of 20,000 bytes", CHUNKED + b"0\r\nX: " + b"a" * 20_000 + b"\r\n\r\n"),
    Case("trailers without an end", CHUNKED + b"0\r\nX: " + b"a" * 20_000),
]


def name(case: Case) -> str:
    return case.name


def cuts(raw: bytes) -> list[list[bytes]]:
    """Whole, byte by byte, and in two at every place."""
    return [[raw], pieces_of(raw, 1), *([raw[:at], raw[at:]] for at in range(1, len(raw)))]


def test_there_are_many() -> None:
    assert len(REFUSED) + len(BAD_ANSWERS) + len(LARGE) >= 250


@pytest.mark.parametrize("case", REFUSED, ids=name)
def test_refused_requests(case: Case) -> None:
    whole = read([case.raw])
    assert whole.refused is not None, [message.shown for message in whole.messages]
    for pieces in cuts(case.raw):
        found = read(pieces)
        assert found.refused, pieces
        assert [message.target for message in found.messages] == [message.target for message in whole.messages]


@pytest.mark.parametrize("case", LARGE, ids=name)
def test_what_is_too_large_is_refused(case: Case) -> None:
    assert read([case.raw]).refused
    assert read(pieces_of(case.raw, 1000)).refused


@pytest.mark.parametrize("case", READ, ids=name)
def test_requests_that_are_read(case: Case) -> None:
    few = cuts(case.raw) if len(case.raw) < 1000 else [[case.raw], pieces_of(case.raw, 1)]
    for pieces in few:
        found = read(pieces)
        assert found.refused is None
        assert [message.shown for message in found.messages] == list(case.reads)
        assert all(message.is_whole for message in found.messages)


@pytest.mark.parametrize("case", BAD_ANSWERS, ids=name)
def test_refused_answers(case: Case) -> None:
    for pieces in cuts(case.raw):
        found = read(pieces, answers=True)
        # What needs a connection to be refused (a switch, interim answers without end) is tested with one.
        assert found.refused or found.messages[0].status < 200, found
