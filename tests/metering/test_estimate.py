"""Cheap counts: slightly high for a prompt, and blind to base64."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.metering.estimate import count_prompt, count_text
from rates.usage import MAX_QUANTITY

IMAGE = 1445


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("a", 1),
        ("abcd", 1),
        ("abcde", 2),
        ("日本語", 3),
        ("ab日本", 3),
        ("😀", 1),
        ("\ud800", 1),
        ("\0" * 8, 2),
    ],
)
def test_text(text: str, tokens: int) -> None:
    assert count_text(text) == tokens


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (b"", 0),
        (b"abc", 1),
        (b"abcd", 2),
        ("日本語".encode(), 3),
        ("aé".encode(), 2),
        ("😀".encode(), 3),
        (rb"\u65e5\u672c", 2),
        (rb"abc\u65e5", 2),
        (b"\xff\x80\x80", 3),
        (b"\\u" * 10, 10),
        (b'"data:image/png;base64,' + b"A" * 100_000 + b'"', 6 + IMAGE),
        (b'"data:image/png;base64,' + rb"A\/" * 1000 + b'","data:image/png;base64,AA=="', 11 + 2 * IMAGE),
        (b'"data":"' + b"A" * 50_000 + b'"', 1 + 50),
        (b'{"data" : "short text"}', 8),
    ],
    ids=lambda value: str(value)[:24],
)
def test_prompt(body: bytes, tokens: int) -> None:
    assert count_prompt(body) == tokens


def test_prompt_is_higher_than_the_text() -> None:
    for text in (
        "The meter runs while you ride. " * 50,
        "運転中もメーターは動きます。" * 50,
        "def f(x): return x + 1\n" * 50,
    ):
        for ensure_ascii in (True, False):
            body = json.dumps({"messages": [{"role": "user", "content": text}]}, ensure_ascii=ensure_ascii)
            assert count_text(text) < count_prompt(body.encode()) < 2 * count_text(text)


@given(body=st.binary())
def test_any_bytes_are_counted(body: bytes) -> None:
    assert 0 <= count_prompt(body) <= MAX_QUANTITY
