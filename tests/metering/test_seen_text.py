"""Text for an estimate: all of it, and bounded memory."""

import json

from proxy.metering.estimate import count_text
from proxy.metering.seen_text import SeenText
from proxy.metering.usage_readers import CHAT


def event(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n"


def test_all_text_is_counted_in_one_go() -> None:
    texts: list[str] = []

    def count(text: str) -> int:
        texts.append(text)
        return 5

    seen = SeenText(CHAT, count)
    for _ in range(5000):
        seen.add(event("four"))
    assert seen.tokens() == 5
    assert texts == ["four" * 5000]


def test_what_is_kept_is_bounded() -> None:
    seen = SeenText(CHAT, count_text)
    for _ in range(300):
        seen.add(event("x" * 60_000))
        assert seen._raw_size <= 200_000
        assert seen._text_size <= 4_300_000
    assert seen.tokens() == 300 * 15_000


def test_an_event_without_its_blank_line_counts() -> None:
    seen = SeenText(CHAT, count_text)
    seen.add(event("four"))
    seen.add(event("more").rstrip())
    assert seen.tokens() == 2
