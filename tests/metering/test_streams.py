"""Every stream on file: one right reading and the same output, however it is cut; never a wrong one, wherever it ends."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.metering import Ending, Reading, RequestFacts
from rates.usage import Usage
from tests.metering.feeding import DATA, FACTS, every_split, one_by_one, run, stream

FT = "ft:gpt-4o-mini-2024-07-18:acme::abc123"
MINI = "gpt-4o-mini-2024-07-18"
# "The meter runs,\n and "usage" counts." has 36 characters of ASCII.
TEXT_TOKENS = 9


def reported(model: str, upstream_id: str, tier: str | None = None, **usage: int) -> Reading:
    return Reading("reported", None, model, Usage(**usage), tier, upstream_id)


def estimated(reason: str, model: str, upstream_id: str, tier: str | None = None, *, output: int) -> Reading:
    return Reading("estimated", reason, model, Usage(input=7, output=output), tier, upstream_id)


EXPECTED = {
    "openai_include_usage": reported(FT, "chatcmpl-C1", "default", input=800, cached_input=200, output=500),
    "openai_not_asked": estimated("no_usage", FT, "chatcmpl-C1", "default", output=TEXT_TOKENS),
    "azure": reported(MINI, "chatcmpl-Az1", input=30, output=8),
    "vllm_continuous": reported("acme-7b", "chatcmpl-v1", input=12, output=8),
    "usage_in_last_choice": reported("smollm2-135m", "chatcmpl-l1", input=31, output=8),
    "cumulative_floats": reported("acme-7b", "chatcmpl-v1", input=12, output=8),
    "two_choices": reported(MINI, "chatcmpl-n1", input=10, output=9),
    "error_midway": estimated("stream_broke", FT, "chatcmpl-C1", output=7),
    "crlf_comments_ids": reported("openai/gpt-4o-mini", "gen-1", input=1, cached_input=16, output=9),
    "cr_only": reported(FT, "chatcmpl-C1", "default", input=800, cached_input=200, output=500),
    "multi_line": reported("gpt-4.1-mini-2025-04-14", "chatcmpl-m1", input=5, output=3),
    "tool_calls": reported("gpt-4.1-2025-04-14", "chatcmpl-t1", "priority", input=80, output=18),
    "byte_order_mark": reported("gpt-4.1-2025-04-14", "chatcmpl-t1", "priority", input=80, output=18),
    "audio": reported(
        "gpt-audio-2025-08-28", "chatcmpl-a1", input=10, cached_input=5, audio_input=25, output=15, audio_output=45
    ),
    "escapes_and_lookalikes": reported("gpt-4o-2024-08-06", "chatcmpl-e1", input=9, output=7),
    "no_last_blank_line": reported(FT, "chatcmpl-C1", "default", input=800, cached_input=200, output=500),
    "never_usage_no_done": estimated("no_usage", FT, "chatcmpl-C1", "default", output=TEXT_TOKENS),
    "negative_usage": estimated("bad_usage", FT, "chatcmpl-C1", output=1),
    "usage_first_no_space": reported(MINI, "chatcmpl-n1", input=4, output=3),
}
ASKED = {"two_choices": RequestFacts(model="asked", stream=True, n=2, prompt_tokens=7)}


def test_every_stream_on_file_is_expected() -> None:
    assert {path.stem for path in (DATA / "streams").glob("*.sse")} == EXPECTED.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_whole_byte_by_byte_and_at_every_split(name: str) -> None:
    data, facts = stream(name), ASKED.get(name, FACTS)
    expected = (EXPECTED[name], data)
    assert run([data], facts=facts) == expected
    assert run(one_by_one(data), facts=facts) == expected
    for pieces in every_split(data):
        assert run(pieces, facts=facts) == expected


@pytest.mark.parametrize("name", EXPECTED)
def test_hidden_the_same_at_every_split(name: str) -> None:
    data, facts = stream(name), ASKED.get(name, FACTS)
    expected = run([data], hide=True, facts=facts)
    assert expected[0] == EXPECTED[name]
    assert run(one_by_one(data), hide=True, facts=facts) == expected
    for pieces in every_split(data):
        assert run(pieces, hide=True, facts=facts) == expected


@pytest.mark.parametrize("ending", [Ending.BROKEN, Ending.CLIENT_LEFT])
@pytest.mark.parametrize("name", EXPECTED)
def test_a_stream_cut_off_is_read_right_or_estimated(name: str, ending: Ending) -> None:
    data, facts = stream(name), ASKED.get(name, FACTS)
    reason = {Ending.BROKEN: "stream_broke", Ending.CLIENT_LEFT: "client_left"}[ending]
    for length in range(len(data)):
        reading, _ = run([data[:length]], ending=ending, facts=facts)
        if reading.status == "reported":
            assert reading == EXPECTED[name]
        else:
            assert reading.status == "estimated"
            assert reading.reason in {reason, EXPECTED[name].reason}


def test_the_estimate_of_a_stream_cut_off_grows_with_what_was_seen() -> None:
    data = stream("openai_not_asked")
    outputs = [run([data[:length]], ending=Ending.CLIENT_LEFT)[0].usage.output for length in range(len(data) + 1)]
    assert outputs == sorted(outputs)
    assert (outputs[0], outputs[-1]) == (0, TEXT_TOKENS)


def test_usage_that_was_seen_survives_a_break() -> None:
    data = stream("openai_include_usage")
    cut = data[: data.index(b"data: [DONE]")]
    for ending in (Ending.BROKEN, Ending.CLIENT_LEFT, Ending.COMPLETE):
        assert run([cut], ending=ending)[0] == EXPECTED["openai_include_usage"]


def test_growing_usage_that_was_cut_off_is_the_least_of_the_estimate() -> None:
    data = stream("vllm_continuous")
    reading, _ = run([data[: data.index(b'"completion_tokens":8')]], ending=Ending.CLIENT_LEFT)
    assert (reading.status, reading.reason, reading.usage) == ("estimated", "client_left", Usage(input=12, output=7))


def test_the_first_finish_of_two_choices_is_not_the_last_word() -> None:
    data = stream("two_choices")
    reading, _ = run([data[: data.index(b"more")]], ending=Ending.BROKEN, facts=ASKED["two_choices"])
    assert (reading.status, reading.reason) == ("estimated", "stream_broke")


def test_a_client_that_leaves_after_the_end_did_not_leave_early() -> None:
    reading, _ = run([stream("openai_not_asked")], ending=Ending.CLIENT_LEFT)
    assert (reading.status, reading.reason) == ("estimated", "no_usage")


@pytest.mark.parametrize("status", [400, 429, 500, 301])
def test_a_stream_with_an_error_status(status: int) -> None:
    assert run([b'data: {"error": {"message": "no"}}\n\n'], status=status)[0] == Reading(
        "failed", None, None, Usage(), None, None
    )
    assert run([stream("azure")], status=status)[0] == EXPECTED["azure"]


def test_an_empty_stream() -> None:
    assert run([])[0] == Reading("estimated", "no_usage", None, Usage(input=7), None, None)


def test_json_that_calls_itself_a_stream_is_passed_on_and_estimated() -> None:
    reading, seen = run([b'{"usage": {"prompt_tokens": 1}}'], hide=True)
    assert (reading.status, seen) == ("estimated", b'{"usage": {"prompt_tokens": 1}}')


@given(data=st.binary(max_size=400), cuts=st.lists(st.integers(0, 400), max_size=6), hide=st.booleans())
def test_any_bytes_pass(data: bytes, cuts: list[int], hide: bool) -> None:
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    reading, seen = run([data[low:high] for low, high in pairwise(edges)], hide=hide)
    assert (reading.status, seen) == ("estimated", data)


TOKENS = st.sampled_from(
    [
        b"data: ", b"data:", b"data", b"\n", b"\r", b"\r\n", b"\n\n", b":", b"id: 1", b"event: x", b"[DONE]", b"\xef\xbb\xbf",
        b'{"usage":null}', b'{"choices":[],"usage":{}}', b'{"model":"m"}', b'{"usage":{"prompt_tokens":1,"completion_tokens":2}}',
        b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}', b'{"a":1', b',"usage":null', b"}", b"NaN", b"\xff",
    ]
)  # fmt: skip


@given(parts=st.lists(TOKENS, max_size=30), hide=st.booleans())
def test_anything_like_a_stream_is_read_the_same_at_every_split(parts: list[bytes], hide: bool) -> None:
    data = b"".join(parts)
    expected = run([data], hide=hide)
    assert run(one_by_one(data), hide=hide) == expected
    assert run(parts, hide=hide) == expected
    assert hide or expected[1] == data
