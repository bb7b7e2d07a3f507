"""Heads that came before, but for their length: read once, and never otherwise than as a whole."""

import random
import re

import pytest

from proxy.http1 import BadHttp, RequestHead, SeenHeads, read_request
from proxy.http1.alike import LARGEST, MOST
from tests.http1 import mutants

LINES = b"POST /v1/x HTTP/1.1\r\nHost: x\r\nX-A: 1\r\n"


def with_length(length: bytes, lines: bytes = LINES) -> bytes:
    return lines + b"Content-Length: " + length + b"\r\nX-B: 2\r\n\r\n"


def said(head: RequestHead) -> dict[str, object]:
    """All that a head says, but for the length of its body, which may be told apart."""
    left_out = ("length", "memo", "fields", "_by_name")
    names = [name for name in RequestHead.__slots__ if name not in left_out]
    fields = [field for field in head.fields if field.name != b"content-length"]
    return {name: getattr(head, name) for name in names} | {"fields": fields}


def seen(*heads: bytes) -> SeenHeads:
    reader = SeenHeads()
    for head in heads:
        reader.read(head)
    return reader


def test_the_third_one_is_not_read_again_and_has_its_own_length() -> None:
    reader = seen(with_length(b"5"), with_length(b"7"))

    third, third_length = reader.read(with_length(b"123"))
    fourth, fourth_length = reader.read(with_length(b"0"))

    assert third is fourth
    assert (third_length, fourth_length) == (123, 0)
    assert said(third) == said(read_request(with_length(b"123")))


def test_requests_without_a_body_are_alike_too() -> None:
    head = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
    reader = seen(head, head)

    assert reader.read(head) == (reader.read(head)[0], 0)
    assert reader.read(head)[0] is reader.read(head)[0]


def test_another_value_is_another_head() -> None:
    reader = seen(*[with_length(b"5")] * 3)

    other, _ = reader.read(with_length(b"5", LINES.replace(b"X-A: 1", b"X-A: 2")))

    assert other["x-a"] == "2"


@pytest.mark.parametrize(
    "length", [b"+5", b"5 ", b"0x5", b"5, 5", b"", b"\xb2", b"1234567890123456", b"5\r\nContent-Length: 5"]
)
def test_a_length_that_is_refused_stays_refused_among_those_that_are_not(length: bytes) -> None:
    reader = seen(*[with_length(b"5")] * 3)
    head = with_length(length)

    try:
        whole = read_request(head)
    except BadHttp as error:
        with pytest.raises(BadHttp, match=re.escape(str(error))):
            reader.read(head)
    else:
        assert reader.read(head)[1] == whole.length == 5  # blanks around a value are none of it


def test_a_second_length_is_refused_however_it_is_written() -> None:
    for other in (b"Content-Length: 5", b"content-length: 5", b"CONTENT-LENGTH:5", b"Transfer-Encoding: chunked"):
        lines = LINES + other + b"\r\n"
        alone = lines + b"X-B: 2\r\n\r\n"
        reader = seen(alone, alone, alone)  # what is left of the other one when its length is taken out
        for _ in range(3):
            with pytest.raises(BadHttp):
                reader.read(with_length(b"5", lines))


def test_what_is_large_or_new_is_not_kept() -> None:
    large = with_length(b"5", LINES + b"X-C: " + b"c" * LARGEST + b"\r\n")
    reader = seen(large, large)
    assert reader.read(large)[0] is not reader.read(large)[0]

    for number in range(2 * MOST):
        for _ in range(2):
            reader.read(with_length(b"5", LINES + b"X-Id: %d\r\n" % number))
        assert len(reader._heads) <= MOST


def test_whatever_came_before_a_head_is_read_as_it_is_read_alone() -> None:
    chance = random.Random(7)
    reader = SeenHeads()
    compared = 0
    for _ in range(20_000):
        raw = mutants.message(mutants.by_chance(chance), answer=False)
        head = raw[: raw.find(b"\r\n\r\n") + 4]
        if not head:
            continue
        compared += 1
        try:
            whole = read_request(head)
        except BadHttp as error:
            with pytest.raises(BadHttp, match=re.escape(str(error))):
                reader.read(head)
        else:
            found, length = reader.read(head)
            assert (said(found), length) == (said(whole), whole.length)
    assert compared > 10_000
    assert len(reader._heads) > 100
