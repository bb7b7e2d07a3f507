"""Counting in pieces: exact on ordinary text, bounded on any."""

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.metering.encodings import load, tokenizer_for
from proxy.metering.tally import MOST, Tally

ENCODE = tokenizer_for("gpt-4o").encode
PROSE = {
    "English": "The meter runs while you ride, and it reads tokens; the fare is shown at the end. It's 3.20 a km.\n",
    "Japanese": "運転中もメーターは動きます。料金は降りるときに分かります。領収書はアプリで確認できます。\n",
    "code": "def fare(km: float, *, night: bool = False) -> int:\n    return round(km * (380 if night else 320))\n\n",
}


def tally(text: str, most: int = MOST) -> int:
    counting = Tally(ENCODE, most)
    counting.add(text)
    return counting.tokens


@pytest.mark.parametrize("kind", PROSE)
@pytest.mark.parametrize("size", [10, 8_000, 200_000])
def test_pieces_count_like_the_whole(kind: str, size: int) -> None:
    text = (PROSE[kind] * (size // len(PROSE[kind]) + 1))[:size]
    whole = len(load("o200k_base").encode_ordinary(text))
    # Where words are parted by blanks nothing is cut apart; elsewhere a token at each of the cuts.
    assert abs(tally(text) - whole) <= (0 if kind == "English" else size // 8192)


@pytest.mark.parametrize("kind", PROSE)
def test_beyond_the_bound_the_rest_counts_alike(kind: str) -> None:
    text = PROSE[kind] * 3000
    assert tally(text, most=len(text) // 4) == pytest.approx(tally(text, most=10 * len(text)), rel=0.01)


def test_many_small_texts_are_bounded_too() -> None:
    calls = 0

    def encode(text: str) -> list[int]:
        nonlocal calls
        calls += 1
        return [0]

    counting = Tally(encode)
    counting.add_all("a" for _ in range(300_000))
    assert counting.tokens == 300_000
    assert calls < 40_000


@given(st.lists(st.text(max_size=50), max_size=20), st.integers(min_value=1, max_value=200))
def test_any_texts_have_some_count(texts: list[str], most: int) -> None:
    counting, all_of_it = Tally(ENCODE, most), Tally(ENCODE)
    before = 0
    for text in texts:
        counting.add(text)
        all_of_it.add(text)
        assert all_of_it.tokens >= before
        before = all_of_it.tokens
        assert counting.tokens >= 0
    assert all_of_it.tokens <= sum(len(text.encode(errors="replace")) for text in texts)


def test_lone_surrogates_count() -> None:
    assert tally("\ud800 and \udfff") > 0


class PanicException(BaseException):
    """As Rust's panics arrive."""


def test_a_panic_is_a_rough_count_and_no_end() -> None:
    def panics(text: str) -> list[int]:
        raise PanicException(text)

    counting = Tally(panics)
    counting.add("four" * 10)
    assert counting.tokens == 10


def test_other_faults_are_not_swallowed() -> None:
    def interrupted(_: str) -> list[int]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Tally(interrupted).add("text")


CHANCE = random.Random(7)
HOSTILE = {
    "blanks": " " * 2_000_000,
    "newlines": "\n" * 2_000_000,
    "one word": "a" * 2_000_000,
    "capitals": "A" * 2_000_000,
    "letters": "".join(CHANCE.choices("abcdefghijklmnopqrstuvwxyz", k=2_000_000)),
    "marks": "\u0301" * 2_000_000,
    "punctuation": "!" * 2_000_000,
    "anything": "".join(map(chr, CHANCE.choices(range(0x20, 0xD7FF), k=2_000_000))),
    "one character and blanks": ("x" + " " * 9_999) * 200,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_texts_end_soon(kind: str) -> None:
    tally("warm")
    began = time.process_time()
    tokens = tally(HOSTILE[kind])
    assert time.process_time() - began < 5  # half a second on an idle machine
    assert 0 < tokens < 3 * len(HOSTILE[kind])
