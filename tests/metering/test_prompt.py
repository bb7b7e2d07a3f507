"""Prompts counted with the model's encoding: the published formula, and a count or None for any JSON."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.metering.encodings import tokenizer_for
from proxy.metering.prompt import count_request
from proxy.metering.tool_text import declarations, functions_in
from rates.usage import MAX_QUANTITY

CHAT, COMPLETIONS, RESPONSES, EMBEDDINGS = "chat/completions", "completions", "responses", "embeddings"
TEXT = "The meter runs while you ride, 走っています。"


def size(text: str, model: str = "gpt-4o") -> int:
    return len(tokenizer_for(model).encode(text))


def count(endpoint: str, body: Any, model: str = "gpt-4o") -> int | None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    prompt = count_request(endpoint, data, tokenizer_for(model))
    return None if prompt is None else prompt.tokens


def chat(*messages: Any, model: str = "gpt-4o", **more: Any) -> int | None:
    return count(CHAT, {"messages": list(messages), **more}, model)


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4", "ft:gpt-4o-mini-2024-07-18:acme::abc123"])
def test_the_chat_formula(model: str) -> None:
    system = {"role": "system", "content": "Be brief."}
    user = {"role": "user", "name": "ann", "content": TEXT}
    want = 3 + (3 + 1 + size("Be brief.", model)) + (3 + 1 + 1 + size("ann", model) + size(TEXT, model))
    assert chat(system, user, model=model) == want


def test_models_that_reason_are_primed_with_one_less() -> None:
    message = {"role": "user", "content": TEXT}
    for model in ("o1", "o3-mini", "o4-mini", "gpt-5", "gpt-5.6-sol", "gpt-6-astra"):
        assert chat(message, model=model) == 2 + 3 + 1 + size(TEXT)


def test_parts() -> None:
    def parts(*given: Any) -> int | None:
        return chat({"role": "user", "content": list(given)})

    empty = parts()
    assert empty == 7
    assert parts({"type": "text", "text": TEXT}, "and text") == empty + size(TEXT) + size("and text")
    assert parts({"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}) == empty + 765
    assert parts({"type": "image_url", "image_url": {"url": "https://x.test/a.png", "detail": "low"}}) == empty + 85
    assert parts({"type": "input_image", "image_url": "https://x.test/a.png", "detail": "low"}) == empty + 85
    assert parts({"type": "input_image", "file_id": "file-1", "detail": "low"}) == empty + 85
    assert parts({"type": "input_audio", "input_audio": {"data": "A" * 50_000}}) == empty + 50
    assert parts({"type": "file", "file": {"file_data": "data:application/pdf;base64," + "A" * 9000}}) == empty + 220
    assert parts({"type": "refusal", "refusal": TEXT}) == empty + size(TEXT)


def test_calls_that_were_made() -> None:
    def calls(number: int) -> int | None:
        call = {"id": "call_1", "type": "function", "function": {"name": "get_fare", "arguments": '{"km":3}'}}
        return chat({"role": "assistant", "content": None, "tool_calls": [call] * number})

    one = size("get_fare") + size('{"km":3}')
    assert calls(1) == 3 + 3 + 1 + one + 8
    assert calls(2) == 3 + 3 + 1 + 2 * (one + 15)
    legacy = {"role": "assistant", "function_call": {"name": "get_fare", "arguments": '{"km":3}'}}
    assert chat(legacy) == calls(1)


def test_tools_and_what_must_be_answered() -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"type": "string"}}}}}]
    told = size(declarations(functions_in(tools)))
    user, system = {"role": "user", "content": "hi"}, {"role": "system", "content": "hi"}
    assert chat(user, tools=tools) == chat(user) + 9 + told  # type: ignore[operator]
    assert chat(system, tools=tools) == chat(system) + 5 + told  # type: ignore[operator]
    assert chat(user, functions=[tools[0]["function"]]) == chat(user, tools=tools)
    choice = {"type": "function", "function": {"name": "f"}}
    assert chat(user, tools=tools, tool_choice=choice) == chat(user, tools=tools) + 9 + 1  # type: ignore[operator]
    assert chat(user, tools=tools, tool_choice="auto") == chat(user, tools=tools)
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert chat(user, response_format=wanted) > chat(user)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [(TEXT, None), ([TEXT], None), ([1, 2, 3], 3), ([[1, 2], [3]], 3), (None, 0), ({}, 0), ([None, {}], 0)],
)
def test_plain_prompts(prompt: Any, tokens: int | None) -> None:
    want = size(TEXT, "babbage-002") if tokens is None else tokens
    assert count(COMPLETIONS, {"prompt": prompt}, "babbage-002") == want
    assert count(EMBEDDINGS, {"input": prompt}, "text-embedding-3-small") == want


def test_responses() -> None:
    message = 3 + 1 + size(TEXT)
    assert count(RESPONSES, {"input": TEXT}) == 3 + message
    assert count(RESPONSES, {"input": TEXT, "instructions": TEXT}) == 3 + 2 * message
    parts = [{"type": "input_text", "text": TEXT}]
    assert count(RESPONSES, {"input": [{"role": "user", "content": parts}]}) == 3 + message
    call = {"type": "function_call", "name": "get_fare", "arguments": "{}"}
    output = {"type": "function_call_output", "output": TEXT}
    called = size("get_fare") + size("{}") + 8
    assert count(RESPONSES, {"input": [call, output]}) == 3 + called + message
    thought = {"type": "reasoning", "summary": [{"text": TEXT}], "encrypted_content": "A" * 999}
    assert count(RESPONSES, {"input": [thought]}) == 3


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"{", b"\xff", b'{"messages":' + b"[" * 100_000, b'{"a":[' + b"1," * 500_000 + b"1]}"],
    ids=["empty", "null", "list", "half", "bytes", "deep", "many"],
)
def test_what_cannot_be_counted(body: bytes) -> None:
    assert count(CHAT, body) is None
    assert count("models", {"messages": []}) is None


def test_what_other_parsers_take_is_counted() -> None:
    assert count(CHAT, b'{"messages": [{"role": "user", "content": "hi \\ud800"}], "x": NaN}') == 3 + 4 + size("hi ?")


PART_MEMBERS = (
    "role", "content", "name", "type", "text", "image_url", "url", "detail", "input_audio", "data", "file", "tool_calls",
    "function", "arguments", "parameters", "properties", "json_schema", "schema", "format", "output", "summary",
    "refusal", "function_call",
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(PART_MEMBERS),
            inner,
            max_size=5,
        )
    ),
    max_leaves=40,
)
MEMBERS = (
    "messages", "tools", "functions", "tool_choice", "function_call", "response_format", "prompt", "suffix", "input",
    "instructions", "text",
)  # fmt: skip


@given(st.sampled_from((CHAT, COMPLETIONS, RESPONSES, EMBEDDINGS)), st.dictionaries(st.sampled_from(MEMBERS), JSON))
def test_any_json_has_a_count(endpoint: str, request: dict[str, Any]) -> None:
    tokens = count(endpoint, request)
    assert tokens is not None
    assert 0 <= tokens <= MAX_QUANTITY
    if isinstance(request.get("messages"), list) and endpoint == CHAT:
        more = {**request, "messages": [*request["messages"], {"role": "user", "content": TEXT}]}
        assert count(endpoint, more) == tokens + 4 + size(TEXT)


@given(st.sampled_from((CHAT, COMPLETIONS, RESPONSES, EMBEDDINGS)), st.binary(max_size=200))
def test_any_bytes_are_taken(endpoint: str, body: bytes) -> None:
    tokens = count(endpoint, body)
    assert tokens is None or tokens >= 0


def test_a_large_body_is_not_read_for_long() -> None:
    """20 MB: text, an image in base64, blanks. The bound is the tally's; here nothing may grow beside it."""
    for content in (
        TEXT * (20_000_000 // len(TEXT.encode())),
        " " * 20_000_000,
        [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 20_000_000}}],
    ):
        tokens = chat({"role": "user", "content": content})
        assert tokens is not None
        assert 100 < tokens < 20_000_000
