"""An event that is taken for plain text says nothing that the full reading would find; and its text is the same."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.metering.reader import Reader, Said
from proxy.metering.responses import RESPONSES
from proxy.metering.usage_readers import CHAT, COMPLETIONS, EMBEDDINGS
from tests.metering.feeding import DATA, FACTS, run

USAGE = {"prompt_tokens": 3, "completion_tokens": 4}
SCALAR = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "é\ud800", "usage", '"error"', "stop"])
)
NAMES = st.sampled_from(
    [
        "choices", "usage", "error", "delta", "text", "content", "refusal", "reasoning", "tool_calls", "function", "name",
        "arguments", "function_call", "audio", "transcript", "type", "item", "response", "finish_reason", "model",
    ]
)  # fmt: skip
TYPES = st.sampled_from(
    ["error", "response.output_text.delta", "response.audio.delta", "response.output_item.added", "function_call", "x"]
)


def listed(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=2)


def member(names: list[str], inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(st.sampled_from(names), inner, max_size=3)


VALUE = st.recursive(
    SCALAR | TYPES, lambda inner: listed(inner) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=8
)
CALL = st.fixed_dictionaries({"function": member(["name", "arguments"], SCALAR)})
DELTA = member(["content", "refusal", "reasoning", "role"], SCALAR) | st.fixed_dictionaries(
    {"content": SCALAR, "tool_calls": listed(CALL)}
)
CHOICE = member(["delta", "text", "finish_reason"], SCALAR | DELTA) | st.fixed_dictionaries({"delta": DELTA})
ITEM = st.fixed_dictionaries({"type": TYPES, "name": SCALAR})
EVENT = st.fixed_dictionaries(
    {},
    optional={
        "choices": listed(CHOICE) | VALUE,
        "usage": st.none() | st.just(USAGE) | VALUE,
        "error": st.none() | VALUE,
        "type": TYPES | SCALAR,
        "delta": SCALAR | VALUE,
        "item": ITEM | VALUE,
        "response": st.none() | st.fixed_dictionaries({"usage": st.just(USAGE), "status": st.just("failed")}) | VALUE,
        "model": SCALAR,
    },
)
READERS = pytest.mark.parametrize("reader", [CHAT, COMPLETIONS, RESPONSES], ids=["chat", "completions", "responses"])


def as_plain(reader: Reader, data: bytes) -> tuple[list[str], bool] | None:
    """(the texts, whether its usage is null) of a plain event."""
    try:
        event = reader.plain_event(data)
    except (ValueError, RecursionError):
        return None
    texts = reader.plain_texts(event)
    plain = texts is not None and (event.usage is None or event.usage is msgspec.UNSET)
    return (list(texts or ()), event.usage is None) if plain else None


def check(reader: Reader, data: bytes) -> bool:
    plain = as_plain(reader, data)
    if plain is None:
        return False
    texts, null_usage = plain
    said = reader.read_event(data)
    assert said is not None
    nothing = {"model": None, "upstream_id": None, "service_tier": None, "without_choices": False}
    silent = Said(model=None, upstream_id=None, service_tier=None, usage=None, error=False)
    if reader is not RESPONSES:
        silent = msgspec.structs.replace(silent, null_usage=null_usage)
    assert msgspec.structs.replace(said, **nothing) == silent
    told = list(reader.text_of_event(data))
    assert [(type(text), text) for text in texts] == [(type(text), text) for text in told]
    return True


@READERS
@settings(max_examples=400, deadline=None)
@given(event=EVENT, twice=st.booleans(), ascii_only=st.booleans())
def test_plain_is_what_says_nothing_else(reader: Reader, event: dict[str, Any], twice: bool, ascii_only: bool) -> None:
    text = json.dumps(event, ensure_ascii=ascii_only)
    if twice and len(event) > 1:  # members that come again
        text = text[:-1] + "," + json.dumps(dict(list(event.items())[:1]), ensure_ascii=ascii_only)[1:]
    check(reader, text.encode(errors="surrogatepass"))


@READERS
def test_usual_events_are_plain(reader: Reader) -> None:
    usual: dict[str, list[dict[str, Any]]] = {
        "chat": [
            {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]},
            {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}], "usage": None},
            {"choices": [{"index": 0, "delta": {"content": None, "reasoning_content": "why"}}]},
            {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"name": "f"}}]}}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            {"choices": []},
        ],
        "completions": [{"choices": [{"text": "a", "index": 0}, {"text": "b", "index": 1}], "usage": None}],
        "responses": [
            {"type": "response.output_text.delta", "delta": "a", "item_id": "m", "sequence_number": 3},
            {"type": "response.output_text.done", "text": "a"},
            {"type": "response.content_part.added", "part": {}},
        ],
    }
    for event in usual[{CHAT: "chat", COMPLETIONS: "completions", RESPONSES: "responses"}[reader]]:
        assert check(reader, json.dumps(event).encode())


def test_no_embedding_is() -> None:
    assert as_plain(EMBEDDINGS, b'{"data":[]}') is None


@pytest.mark.parametrize("path", sorted((DATA / "streams").glob("*.sse")), ids=lambda path: path.stem)
def test_the_streams_on_file(path: Any) -> None:
    for line in path.read_bytes().splitlines():
        if line.startswith(b"data:"):
            check(CHAT, line[5:].strip())


NAMED = b'data: {"model":"m","choices":[{"delta":{"content":"a"}}]}\n\n'
USED = b'"usage":{"prompt_tokens":3,"completion_tokens":4}'


@pytest.mark.parametrize("hide", [False, True])
@pytest.mark.parametrize(
    "event",
    [
        b'data: {"choices":[{"delta":{"content":"b"},"finish_reason":"stop"}],' + USED + b"}\n\n",
        b'data: {"choices":[{"delta":{},"finish_reason":"stop"}],' + USED.replace(b"usage", b"\\u0075sage") + b"}\n\n",
        b'event: x\ndata: {"choices":null,' + USED + b"}\n\n",
        b'data: {"choices":[{"delta":{}}]}\n\ndata: {"choices":null,' + USED + b"}\n\n",
        b"data: [DONE]\n\ndata: {" + USED + b"}\n\n",
        b'data: {"choices":[],\ndata: ' + USED + b',"x":[]}\ndata:\n\n',
        b'data: {"choices":null,"usage":null,' + USED + b"}\n\n",
    ],
)
def test_usage_in_odd_places_is_found(event: bytes, hide: bool) -> None:
    for pieces in ([NAMED + event], [NAMED, event], [NAMED, NAMED, event]):
        reading, _ = run(pieces, hide=hide, facts=FACTS)
        assert (reading.status, reading.usage.output) == ("reported", 4)


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"choices":[],\n' + USED + b"}\n\n",  # the second line is of no field: the JSON is broken
        b'data: {"choices":[],\r' + USED + b"}\n\n",
        b"event: x\n" + USED + b"\n\n",
    ],
)
def test_what_is_no_data_is_not_read(event: bytes) -> None:
    for pieces in ([NAMED + event], [NAMED, event]):
        assert run(pieces)[0].status == "estimated"
