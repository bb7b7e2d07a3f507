"""A reading without its numbers: counted exactly or roughly, and the same whoever counts."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from proxy.metering import Ending, Meter, Reading, Uncounted, endpoint_of, read_request
from proxy.metering.encodings import load, tokenizer_for
from tests.metering.feeding import CHAT, JSON, STREAM

FAR = "So far and no further, 運転中も。"


def size(text: str) -> int:
    return len(tokenizer_for("gpt-4o").encode(text))


def event(**delta: object) -> bytes:
    chunk = {"id": "c", "model": "gpt-4o-2024-08-06", "choices": [{"index": 0, "delta": delta}]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def request(content: object = "How far is it?", **more: object) -> bytes:
    return json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": content}], **more}).encode()


def ended(
    pieces: list[bytes], body: bytes, ending: Ending = Ending.CLIENT_LEFT, content_type: str = STREAM
) -> Reading | Uncounted:
    meter = Meter(CHAT, read_request(CHAT, body), hide_usage=False)
    meter.start(200, content_type, "")
    for piece in pieces:
        meter.feed(piece)
    return meter.end(ending, body)


def uncounted(pieces: list[bytes], body: bytes, ending: Ending = Ending.CLIENT_LEFT, kind: str = STREAM) -> Uncounted:
    given = ended(pieces, body, ending, kind)
    assert isinstance(given, Uncounted)
    return given


PROMPT = 3 + 3 + 1 + len(load("o200k_base").encode_ordinary("How far is it?"))


def test_a_stream_that_the_client_left() -> None:
    reading = uncounted([event(role="assistant"), event(content=FAR[:9]), event(content=FAR[9:])], request()).count()
    assert (reading.status, reading.reason, reading.model) == ("estimated", "client_left", "gpt-4o-2024-08-06")
    assert reading.usage.as_dict() == {"input": PROMPT, "output": size(FAR)}
    assert (reading.encoding, reading.encoding_assumed) == ("o200k_base", False)


def test_everything_that_was_written_counts() -> None:
    def call(**function: str) -> bytes:
        return event(tool_calls=[{"index": 0, "function": function}])

    pieces = [
        event(reasoning_content="Hm. "),
        event(refusal="I cannot."),
        call(name="get_fare", arguments=""),
        call(arguments='{"km"'),
        call(arguments=": 3}"),
    ]
    output = uncounted(pieces, request()).count().usage.output
    assert output == size("Hm. I cannot.") + size("get_fare") + size('{"km": 3}') + 7


def test_a_call_that_had_to_be_made_is_its_arguments_alone() -> None:
    piece = event(tool_calls=[{"index": 0, "function": {"name": "get_fare", "arguments": '{"km": 3}'}}])
    body = request(tool_choice={"type": "function", "function": {"name": "get_fare"}})
    assert uncounted([piece], body).count().usage.output == size('{"km": 3}')


def test_a_whole_reply_without_usage() -> None:
    reply = {"model": "gpt-4o", "choices": [{"message": {"content": FAR}}, {"message": {"content": FAR}}]}
    reading = uncounted([json.dumps(reply).encode()], request(n=2), Ending.COMPLETE, JSON).count()
    assert (reading.status, reading.reason) == ("estimated", "no_usage")
    assert reading.usage.as_dict() == {"input": PROMPT, "output": 2 * size(FAR)}


def test_what_the_upstream_said_on_the_way_is_the_least() -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 900, "prompt_tokens_details": {"cached_tokens": 400}}
    chunk = {"model": "gpt-4o", "choices": [{"delta": {"content": FAR}}], "usage": usage}
    reading = uncounted([b"data: " + json.dumps(chunk).encode() + b"\n\n"], request()).count()
    assert reading.usage.as_dict() == {"input": 600, "cached_input": 400, "output": 900}


def test_never_an_answer() -> None:
    meter = Meter(CHAT, read_request(CHAT, request()), hide_usage=False)
    given = meter.end(Ending.NO_STATUS, request())
    assert isinstance(given, Uncounted)
    assert given.count().usage.as_dict() == {"input": PROMPT}
    assert given.count().status == "presumed"


def test_reported_needs_no_count() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 0}
    body = json.dumps({"model": "gpt-4o", "choices": [], "usage": usage}).encode()
    assert isinstance(ended([body], request(), Ending.COMPLETE, JSON), Reading)


def test_a_body_that_cannot_be_read_counts_as_the_hold_does() -> None:
    facts = read_request(CHAT, b"\xff not JSON, but as long as this")
    meter = Meter(CHAT, facts, hide_usage=False)
    given = meter.end(Ending.NO_STATUS, b"\xff not JSON, but as long as this")
    assert isinstance(given, Uncounted)
    assert given.count().usage.input == facts.prompt_tokens > 0


def test_the_model_that_configuration_names_decides_the_encoding() -> None:
    given = uncounted([event(content=FAR)], request())
    assert given.count("gpt-4-0613").encoding == "cl100k_base"
    assert given.count("acme-classifier").encoding_assumed


def test_roughly_needs_no_table() -> None:
    given = uncounted([event(content=FAR)], request())
    rough = given.roughly()
    assert (rough.encoding, rough.usage.output) == (None, 11)
    assert rough.usage.input == read_request(CHAT, request()).prompt_tokens


def test_counting_changes_nothing() -> None:
    given = uncounted([event(content=FAR)] * 100, request())
    with ThreadPoolExecutor(4) as pool:
        readings = list(pool.map(lambda _: given.count(), range(20)))
    assert readings == [readings[0]] * 20
    assert given.roughly() == given.roughly()


@pytest.mark.parametrize("endpoint", ["completions", "responses", "embeddings"])
def test_every_endpoint_has_a_prompt(endpoint: str) -> None:
    row = endpoint_of("POST", endpoint)
    body = json.dumps({"model": "gpt-4o", "prompt": FAR, "input": FAR}).encode()
    given = Meter(row, read_request(row, body), hide_usage=False).end(Ending.NO_STATUS, body)
    assert isinstance(given, Uncounted)
    assert given.count().usage.input == size(FAR) + (7 if endpoint == "responses" else 0)


def test_a_long_answer_is_counted_up_to_a_bound() -> None:
    given = uncounted([event(content=FAR * 4000)] * 60, request())  # 6 million characters
    began = time.process_time()
    output = given.count().usage.output
    assert time.process_time() - began < 5
    assert output == pytest.approx(60 * 4000 * size(FAR), rel=0.02)
