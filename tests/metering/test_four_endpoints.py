"""Every body and stream of the four endpoints: one right reading however it is cut, and never a wrong one."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.metering import Ending, Endpoint, Reading, RequestFacts, endpoint_of
from rates.usage import Usage
from tests.metering.feeding import DATA, FACTS, JSON, STREAM, one_by_one, run

FT = "ft:gpt-4.1-mini-2025-04-14:acme::abc123"
TERRA = "gpt-5.6-terra"
GPT54 = "gpt-5.4-2026-03-05"
# 'The meter runs, and "usage" counts.' has 35 characters of ASCII.
TEXT_TOKENS = 9
PROMPT = FACTS.prompt_tokens
MOST_SPLITS = 250


def reported(upstream_id: str | None, model: str, tier: str | None = "default", **usage: int) -> Reading:
    return Reading("reported", None, model, Usage(**usage), tier, upstream_id)


def estimated(
    reason: str, upstream_id: str | None, model: str, tier: str | None, output: int = TEXT_TOKENS, **usage: int
) -> Reading:
    return Reading("estimated", reason, model, Usage(**{"input": PROMPT, **usage}, output=output), tier, upstream_id)


CONSTRUCTED = {
    "responses_cache_writes.json": reported(
        "resp_W1", TERRA, "priority", input=464, cached_input=1536, cache_write=2000, cache_write_12h=1000, output=700
    ),
    "responses_web_search.json": reported("resp_W1", GPT54, input=100, output=50, web_search_calls=1),
    "responses_web_search_told.json": reported("resp_W1", GPT54, input=100, output=50, web_search_calls=3),
    "responses_old_search.json": reported("resp_W1", FT, input=100, output=50, web_search_preview_calls=1),
    "responses_search_kind_unclear.json": estimated(
        "search_kind", "resp_W1", FT, "default", input=100, output=50, web_search_preview_calls=1
    ),
    "responses_image_told.json": reported("resp_W1", FT, input=100, output=50, image_input=20, image_output=1056),
    "responses_image_untold.json": reported("resp_W1", FT, input=100, output=50, unknown_tool_calls=1),
    "responses_failed.json": Reading("failed", None, FT, Usage(), "default", "resp_W1"),
    "responses_failed_with_usage.json": reported("resp_W1", FT, input=100, output=7),
    "responses_queued.json": Reading("pending", "background", FT, Usage(input=PROMPT), "auto", "resp_W1"),
    "responses_cancelled.json": estimated("no_usage", "resp_W1", FT, "default"),
    "responses_zero.json": reported("resp_W1", FT),
    "responses_absurd.json": estimated("bad_usage", "resp_W1", FT, "default"),
    "responses_absurd_search.json": estimated("bad_usage", "resp_W1", FT, "default"),
    "responses_stream.sse": reported("resp_S1", FT, input=36, cached_input=64, output=50),
    "responses_stream_incomplete.sse": reported("resp_S1", FT, input=100, output=16),
    "responses_stream_growing.sse": reported("resp_S1", FT, input=100, output=50),
    "responses_stream_growing_no_end.sse": estimated("stream_broke", "resp_S1", FT, "auto", input=100),
    "responses_stream_failed.sse": estimated("stream_broke", "resp_S1", FT, "auto"),
    "responses_stream_failed_early.sse": Reading("failed", None, FT, Usage(), "auto", "resp_S1"),
    "responses_stream_failed_with_usage.sse": reported("resp_S1", FT, input=100, output=9),
    "responses_stream_error.sse": estimated("stream_broke", "resp_S1", FT, "auto"),
    "responses_stream_background.sse": reported("resp_S1", FT, input=100, output=50),
    "responses_stream_background_left.sse": Reading("pending", "background", FT, Usage(input=PROMPT), "auto", "resp_S1"),
    "responses_stream_no_usage.sse": estimated("no_usage", "resp_S1", FT, "auto"),
    # fare, {"usage":1}, I will, Think: the calls, the refusal and the reasoning, and not the audio's bytes.
    "responses_stream_calls.sse": estimated("no_usage", "resp_S1", FT, "auto", output=7),
    "completions_stream_usage.sse": reported("cmpl-1", "davinci-002", None, input=12, output=9),
    "completions_stream_not_asked.sse": estimated("no_usage", "cmpl-1", "davinci-002", None),
    "completions_no_usage.json": estimated("no_usage", "cmpl-1", "davinci-002", None),
    "completions_zero.json": reported("cmpl-1", "davinci-002", None),
    "embeddings_floats.json": reported(None, "text-embedding-3-large", None, input=8),
    "embeddings_total_only.json": reported(None, "text-embedding-3-large", None, input=8),
    "embeddings_no_usage.json": estimated("no_usage", None, "text-embedding-3-large", None, output=0),
    "embeddings_absurd.json": estimated("bad_usage", None, "text-embedding-3-large", None, output=0),
}  # fmt: skip
PUBLISHED = {path.name: path for path in sorted((DATA / "published").glob("*.[js]*"))}
TOOLS = {
    "responses_web_search.json": {"web_search_preview_calls": 1},
    "responses_file_search.json": {"file_search_calls": 1},
}


def constructed(name: str) -> bytes:
    return (DATA / "endpoints" / name).read_bytes()


def endpoint(name: str) -> Endpoint:
    kind = re.split(r"[_.]", name)[0]
    return endpoint_of("POST", "chat/completions" if kind == "chat" else kind)


def content_type(name: str) -> str:
    return STREAM if name.endswith(".sse") else JSON


def facts(name: str) -> RequestFacts:
    return RequestFacts(model="asked", stream=True, n=2, prompt_tokens=PROMPT) if "two_choices" in name else FACTS


def read(
    name: str, pieces: list[bytes], ending: Ending = Ending.COMPLETE, hide: bool = False, status: int = 200
) -> tuple[Reading, bytes]:
    return run(
        pieces,
        endpoint=endpoint(name),
        content_type=content_type(name),
        ending=ending,
        hide=hide,
        facts=facts(name),
        status=status,
    )


def some(data: bytes) -> range:
    """Every place, or of a large body so many, at steps that share no factor with how it is made."""
    return range(0, len(data) + 1, 1 if len(data) <= 4000 else len(data) // MOST_SPLITS | 1)


def told(name: str, body: bytes) -> Any:
    """What a plain parse finds: the last object with usage, or the last one."""
    if name.endswith(".json"):
        return json.loads(body)
    objects = [json.loads(text) for text in re.findall(rb"^data: (\{.*\})\r?$", body, re.MULTILINE)]
    objects = [event.get("response", event) for event in objects]
    return next((each for each in reversed(objects) if each.get("usage")), objects[0])


def test_every_file_is_expected() -> None:
    assert {path.name for path in (DATA / "endpoints").glob("*.[js]*")} == CONSTRUCTED.keys()
    listed = (DATA / "published" / "README.md").read_text()
    assert len(PUBLISHED) >= 19
    assert all(f"`{name}`" in listed for name in PUBLISHED)


@pytest.mark.parametrize("name", CONSTRUCTED)
def test_constructed(name: str) -> None:
    data = constructed(name)
    for hide in {False, endpoint(name).usage_on_request}:
        expected = (CONSTRUCTED[name], read(name, [data], hide=hide)[1])
        assert hide or expected[1] == data
        for pieces in [[data], one_by_one(data), *([data[:at], data[at:]] for at in some(data))]:
            assert read(name, pieces, hide=hide) == expected


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_is_read_as_a_plain_parse_reads_it(name: str) -> None:
    data = PUBLISHED[name].read_bytes()
    status = 404 if "not_found" in name else 200
    last = told(name, data)
    reading, seen = read(name, [data], status=status)
    usage = last.get("usage")
    assert seen == data
    if status != 200:
        assert reading.status == "failed"
    elif usage is None:
        assert (reading.status, reading.reason, reading.model) == ("estimated", "no_usage", _model(data))
    else:
        assert (reading.status, reading.model, reading.upstream_id) == ("reported", last["model"], last.get("id"))
        assert reading.service_tier == last.get("service_tier")
        quantities = reading.usage.as_dict()
        calls = {kind: quantities.pop(kind) for kind in list(quantities) if kind.endswith("_calls")}
        assert calls == TOOLS.get(name, {})
        output = quantities.pop("output", 0)
        assert output == usage.get("output_tokens", usage.get("completion_tokens", 0))
        assert sum(quantities.values()) == usage.get("input_tokens", usage.get("prompt_tokens"))
        details = usage.get("input_tokens_details", usage.get("prompt_tokens_details", {}))
        assert quantities.get("cached_input", 0) == details.get("cached_tokens", 0)
    for pieces in [one_by_one(data), *([data[:at], data[at:]] for at in some(data))]:
        assert read(name, pieces, status=status) == (reading, seen)


def _model(data: bytes) -> str:
    found = re.search(rb'"model": ?"([^"]+)"', data)
    assert found
    return found.group(1).decode()


@pytest.mark.slow  # all files together take most of a minute
@pytest.mark.parametrize("ending", [Ending.BROKEN, Ending.CLIENT_LEFT])
@pytest.mark.parametrize(
    "path", [*PUBLISHED.values(), *(DATA / "endpoints" / name for name in CONSTRUCTED)], ids=lambda path: path.name
)
def test_cut_off_anywhere_it_is_read_right_or_estimated(path: Path, ending: Ending) -> None:  # fmt: skip
    name, data = path.name, path.read_bytes()
    whole, _ = read(name, [data])
    reason = {Ending.BROKEN: "stream_broke", Ending.CLIENT_LEFT: "client_left"}[ending]
    for length in some(data):
        reading, _ = read(name, [data[:length]], ending)
        if reading.status == "estimated":
            assert reading.reason in {reason, whole.reason}
        elif reading.status == "pending":
            assert "background" in name or "queued" in name
        else:
            assert reading == whole


def test_a_background_stream_that_is_left_is_charged_when_somebody_asks_for_it() -> None:
    data = constructed("responses_stream_background.sse")
    cut = data[: data.index(b"response.completed")]
    for ending in (Ending.BROKEN, Ending.CLIENT_LEFT, Ending.COMPLETE):
        assert read("responses_stream_background.sse", [cut], ending)[0].status == "pending"
    ordinary = constructed("responses_stream.sse")
    cut = ordinary[: ordinary.index(b"response.completed")]
    assert read("responses_stream.sse", [cut], Ending.CLIENT_LEFT)[0].status == "estimated"


def test_unfinished_and_without_an_id_it_can_only_be_estimated() -> None:
    data = constructed("responses_queued.json").replace(b'"id": "resp_W1"', b'"id": null')
    assert read("responses_queued.json", [data])[0].status == "estimated"
    counted = data.replace(b'"usage": null', b'"usage": {"input_tokens": 5, "output_tokens": 1}')
    reading = read("responses_queued.json", [counted])[0]
    assert (reading.status, reading.usage) == ("estimated", Usage(input=5, output=1))


@pytest.mark.parametrize("status", [400, 429, 500])
def test_an_error_status_is_no_background_response(status: int) -> None:
    data = constructed("responses_queued.json")
    assert read("responses_queued.json", [data], status=status)[0].status == "failed"


def test_hidden_completions_are_what_who_did_not_ask_sees() -> None:
    asked, plain = constructed("completions_stream_usage.sse"), constructed("completions_stream_not_asked.sse")
    assert read("completions_stream_usage.sse", [asked], hide=True)[1] == plain


@given(
    name=st.sampled_from(sorted(CONSTRUCTED)),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), st.binary(max_size=6)), max_size=4),
    cut=st.floats(0, 1),
    ending=st.sampled_from([Ending.COMPLETE, Ending.BROKEN, Ending.CLIENT_LEFT]),
)
def test_whatever_is_changed_in_it_is_read_the_same_at_any_split(
    name: str, edits: list[tuple[float, int, bytes]], cut: float, ending: Ending
) -> None:
    data = constructed(name)
    for place, gone, put in edits:
        at = round(place * len(data))
        data = data[:at] + put + data[at + gone :]
    at = round(cut * len(data))
    expected = read(name, [data], ending)
    assert expected[1] == data
    assert read(name, [data[:at], data[at:]], ending) == expected
    assert all(quantity >= 0 for quantity in expected[0].usage.as_dict().values())
