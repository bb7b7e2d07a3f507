"""How far estimates are from what was charged: recorded requests with their usage (see tests/data/token_pairs)."""

import json
from collections.abc import Iterable
from typing import Any

import pytest

from proxy.metering.chat_text import text_of_reply
from proxy.metering.encodings import tokenizer_for
from proxy.metering.prompt import count_request
from proxy.metering.reading import count_output
from tests.metering.feeding import DATA

PAIRS = [json.loads(row) for row in (DATA / "token_pairs" / "pairs.jsonl").read_text().splitlines()]


def chosen(endpoint: str, kind: str, text: str | None = None) -> list[dict[str, Any]]:
    pairs = [pair for pair in PAIRS if (pair["endpoint"], pair["kind"]) == (endpoint, kind)]
    return [pair for pair in pairs if text in (None, pair["text"])]


def prompt_of(pair: dict[str, Any]) -> tuple[int, bool]:
    tokenizer = tokenizer_for(pair["model"])
    prompt = count_request(pair["endpoint"], json.dumps(pair["request"]).encode(), tokenizer)
    assert prompt is not None
    return prompt.tokens, prompt.chosen


def output_of(pair: dict[str, Any]) -> int:
    reply = json.dumps({"choices": [{"message": message} for message in pair["messages"]]}).encode()
    return count_output(tokenizer_for(pair["model"]), text_of_reply(reply), pair["endpoint"], chosen=prompt_of(pair)[1])


def error(counted: Iterable[int], charged: Iterable[int]) -> float:
    total = sum(charged)
    return (sum(counted) - total) / total


@pytest.mark.parametrize(("text", "n"), [("English", 53), ("code", 2)])
def test_plain_chats_are_within_two_percent(text: str, n: int) -> None:
    pairs = chosen("chat/completions", "plain", text)
    assert len(pairs) == n
    assert [prompt_of(pair)[0] for pair in pairs] == [pair["prompt_tokens"] for pair in pairs]  # exact, each of them
    counted = [prompt_of(pair)[0] + output_of(pair) for pair in pairs]
    charged = [pair["prompt_tokens"] + pair["completion_tokens"] for pair in pairs]
    assert abs(error(counted, charged)) <= 0.02
    # What is missing is the token that ends an answer, or what was cut off at a stop sequence.
    for pair in pairs:
        assert 0 <= pair["completion_tokens"] - output_of(pair) <= 2


@pytest.mark.parametrize(
    ("endpoint", "kind", "n", "bound"),
    [
        ("chat/completions", "tools", 157, 0.02),
        ("chat/completions", "schema", 42, 0.04),
        ("chat/completions", "reasoning", 13, 0.04),
        ("chat/completions", "file", 5, 0.02),
        ("chat/completions", "image", 14, 0.10),
        ("embeddings", "plain", 9, 0.0),
        ("responses", "plain", 55, 0.01),
        ("responses", "tools", 114, 0.08),
        ("responses", "schema", 46, 0.06),
    ],
)
def test_the_error_of_other_prompts_is_as_stated(endpoint: str, kind: str, n: int, bound: float) -> None:
    pairs = chosen(endpoint, kind)
    assert len(pairs) == n
    assert abs(error((prompt_of(pair)[0] for pair in pairs), (pair["prompt_tokens"] for pair in pairs))) <= bound


@pytest.mark.parametrize(
    ("kind", "n", "bound"), [("tools", 157, 0.03), ("schema", 42, 0.13), ("image", 14, 0.06), ("reasoning", 13, 0.03)]
)
def test_the_error_of_other_answers_is_as_stated(kind: str, n: int, bound: float) -> None:
    pairs = chosen("chat/completions", kind)
    assert len(pairs) == n
    charged = (pair["completion_tokens"] - pair["reasoning_tokens"] for pair in pairs)
    assert abs(error(map(output_of, pairs), charged)) <= bound
