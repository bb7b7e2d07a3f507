"""Text for an estimate: all of it, and bounded memory."""

import json
from collections.abc import Iterable

from proxy.metering.estimate import count_texts
from proxy.metering.event_stream import EventStream
from proxy.metering.reader import CalledName
from proxy.metering.usage_readers import CHAT


def event(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n"


def stream(*, choices: int = 1) -> EventStream:
    return EventStream(CHAT, choices_asked=choices, hide=False)


def texts_of(seen: EventStream) -> list[str]:
    texts: list[str] = []

    def count(given: Iterable[str]) -> int:
        texts.extend(given)
        return 5

    seen.tail()
    seen.gather()
    assert seen.output_tokens(count) == 5
    return texts


def test_deltas_are_one_text() -> None:
    seen = stream()
    for _ in range(5000):
        seen.feed(event("four"))
    assert texts_of(seen) == ["four" * 5000]
    assert texts_of(seen) == ["four" * 5000]  # counting changes nothing


def test_deltas_of_several_choices_stand_alone() -> None:
    seen = stream(choices=2)
    for text in ("So", "Bon", " far", "jour"):
        seen.feed(event(text))
    assert texts_of(seen) == ["So", "Bon", " far", "jour"]


def test_a_called_name_stands_alone() -> None:
    seen = stream()
    for text in ("Let me", " see"):
        seen.feed(event(text))
    for function in ({"name": "get_fare", "arguments": ""}, {"arguments": '{"km'}, {"arguments": '": 3}'}):
        delta = {"tool_calls": [{"index": 0, "function": function}]}
        seen.feed(b"data: " + json.dumps({"choices": [{"delta": delta}]}).encode() + b"\n\n")
    texts = texts_of(seen)
    assert texts == ["Let me see", "get_fare", '{"km": 3}']
    assert [isinstance(text, CalledName) for text in texts] == [False, True, False]


def test_what_is_kept_is_bounded() -> None:
    seen = stream()
    kept = seen._seen_text
    for _ in range(300):
        seen.feed(event("x" * 60_000))
        assert sum(map(len, (*kept._texts, *kept._run, *kept._fresh))) <= 4_300_000
    seen.tail()
    seen.gather()
    assert seen.output_tokens(count_texts) == 300 * 15_000  # what was not kept counts like what was


def test_an_event_without_its_blank_line_counts() -> None:
    seen = stream()
    seen.feed(event("four"))
    seen.feed(event("more").rstrip())
    seen.tail()
    seen.gather()
    assert seen.output_tokens(count_texts) == 2
