"""What stands around an answer and is charged, though it is no text."""

import pytest

from proxy.metering.encodings import tokenizer_for
from proxy.metering.reader import CalledName
from proxy.metering.reading import count_output


@pytest.mark.parametrize(
    ("model", "chat", "responses"),
    [
        ("gpt-4o-mini", 0, 1),
        ("ft:gpt-4.1-2025-04-14:acme::abc123", 0, 1),
        ("o3-mini", 13, 1),
        ("gpt-5-nano-2025-08-07", 9, 6),
        ("gpt-5.1-2025-11-13", 9, 6),
        ("gpt-5.2", 3, 4),
        ("gpt-5.6-sol", 3, 4),
        ("gpt-5-chat-latest", 0, 1),
        ("gpt-5.1-chat-latest", 0, 1),
        ("somebody/else", 0, 0),
    ],
)
def test_an_answer_has_a_frame_by_model_and_endpoint(model: str, chat: int, responses: int) -> None:
    tokenizer = tokenizer_for(model)
    assert count_output(tokenizer, ["Paris"], "chat/completions", chosen=False) == 1 + chat
    assert count_output(tokenizer, ["Paris"], "responses", chosen=False) == 1 + responses


def test_what_is_no_answer_has_no_frame() -> None:
    tokenizer = tokenizer_for("gpt-5.6-sol")
    assert count_output(tokenizer, ["Paris"], "completions", chosen=False) == 1
    assert count_output(tokenizer, [], "responses", chosen=False) == 0
    assert count_output(tokenizer, [CalledName("look"), "{}"], "responses", chosen=True) == 1


def test_calls_have_their_own_frame() -> None:
    tokenizer = tokenizer_for("gpt-4o-mini")
    assert count_output(tokenizer, [CalledName("look"), "{}"], "chat/completions", chosen=False) == 1 + 1 + 7
