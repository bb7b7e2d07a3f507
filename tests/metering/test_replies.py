"""Whole replies: each on file has one right reading, however it is cut; cut off, it is an estimate."""

import gzip
import json
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.metering import Ending, Meter, Reading, RequestFacts, Uncounted, endpoint_of
from proxy.metering.estimate import count_texts
from proxy.metering.usage_readers import CHAT as CHAT_READER
from proxy.metering.whole_reply import WholeReply
from rates.usage import Usage
from tests.metering.feeding import CHAT, DATA, FACTS, JSON, STREAM, every_split, one_by_one, reply, run, stream

FT = "ft:gpt-4o-mini-2024-07-18:acme::abc123"
W1 = "chatcmpl-W1"


def reported(model: str, tier: str | None = None, **usage: int) -> Reading:
    return Reading("reported", None, model, Usage(**usage), tier, W1)


def estimated(reason: str) -> Reading:
    # 'The meter runs, and "usage": null counts.' has 41 characters of ASCII.
    return Reading("estimated", reason, "acme-7b", Usage(input=7, output=11), None, W1)


EXPECTED = {
    "openai_fine_tuned": reported(FT, "default", input=1000, output=500),
    "cached_and_reasoning": reported(
        "gpt-5.4-2026-03-05", "priority", input=208, cached_input=1536, cache_write=256, output=700
    ),
    "audio": reported("gpt-audio-2025-08-28", cached_input=20, audio_input=70, cached_audio_input=10, output=50, audio_output=250),
    "tool_calls": reported("gpt-4.1-2025-04-14", input=82, output=17),
    "azure": reported("gpt-4o-mini-2024-07-18", input=30, output=8),
    "reasoning_on_top": reported("grok-3-mini", input=26, cached_input=6, output=103),
    "float_usage": reported("acme-7b", input=12, output=7),
    "zero_usage": reported("acme-7b"),
    "images": reported("gpt-4o-2024-08-06", input=135, image_input=765, output=20),
    "null_usage": estimated("no_usage"),
    "no_usage": estimated("no_usage"),
    "absurd_usage": estimated("bad_usage"),
    "nan_usage": estimated("bad_usage"),
}  # fmt: skip


def test_every_reply_on_file_is_expected() -> None:
    assert {path.stem for path in (DATA / "replies").glob("*.json")} == EXPECTED.keys()


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("hide", [False, True])
def test_whole_byte_by_byte_and_at_every_split(name: str, hide: bool) -> None:
    data = reply(name)
    for pieces in [[data], one_by_one(data), *every_split(data)]:
        assert run(pieces, content_type=JSON, hide=hide) == (EXPECTED[name], data)


@pytest.mark.parametrize("ending", [Ending.BROKEN, Ending.CLIENT_LEFT])
@pytest.mark.parametrize("name", EXPECTED)
def test_a_reply_cut_off_is_read_right_or_estimated(name: str, ending: Ending) -> None:
    data = reply(name)
    last = 0
    for length in range(len(data.rstrip())):
        reading, _ = run([data[:length]], content_type=JSON, ending=ending)
        assert reading.status == "estimated"
        assert reading.reason in ("stream_broke", "client_left")
        assert reading.usage.output >= last
        last = reading.usage.output
    assert run([data.rstrip()], content_type=JSON, ending=ending)[0] == EXPECTED[name]


def test_the_same_object_goes_on() -> None:
    data = reply("openai_fine_tuned")
    for content_type in (JSON, STREAM):
        meter = Meter(CHAT, FACTS, hide_usage=False)
        assert meter.feed(data) is data
        meter.start(200, content_type, "")
        assert meter.feed(data) is data
        assert (meter.tail(), meter.is_stream, meter.decodes) == (b"", content_type is STREAM, False)


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "application/json", "", "text/plain", "garbage;;"]
)
def test_json_by_any_other_name(content_type: str) -> None:
    data = reply("azure")
    assert run([data], content_type=content_type, hide=True) == (EXPECTED["azure"], data)


def test_a_stream_by_another_name_is_read_at_its_end() -> None:
    data = stream("openai_include_usage")
    assert run([data], content_type="text/plain")[0] == run([data])[0]
    cut = stream("openai_not_asked")[:-40]
    assert run([cut], content_type="", ending=Ending.BROKEN)[0] == run([cut], ending=Ending.BROKEN)[0]


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503, 302, 100])
@pytest.mark.parametrize("body", [b"", b"<html>", b'{"error": {"message": "no"}}', b'{"usage": {"prompt_tokens": -1}}'])
@pytest.mark.parametrize("ending", list(Ending))
def test_no_success_without_usage_costs_nothing(status: int, body: bytes, ending: Ending) -> None:
    assert run([body], status=status, content_type=JSON, ending=ending)[0] == Reading(
        "failed", None, None, Usage(), None, None
    )


def test_no_success_with_usage_is_reported() -> None:
    assert run([reply("azure")], status=500, content_type=JSON)[0] == EXPECTED["azure"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "no_usage"),
        (b"{}", "no_usage"),
        (b'{"usage": {}}', "no_usage"),
        (b'{"usage": []}', "bad_usage"),
        (b'{"usage": "many"}', "bad_usage"),
        (b'{"usage": 12}', "bad_usage"),
        (b'{"error": {"message": "no"}}', "no_usage"),
        (b"<html><body>nginx</body></html>", "unreadable"),
        (b"null", "unreadable"),
        (b"[1]", "unreadable"),
        (b"\xff\x00", "unreadable"),
        (b'{"usage": ' + b"[" * 100_000, "unreadable"),
        (b'{"usage": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "unreadable"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_what_a_success_can_say_instead(body: bytes, reason: str) -> None:
    reading, seen = run([body], content_type="text/html")
    assert (reading.status, reading.reason, reading.usage) == ("estimated", reason, Usage(input=7))
    assert seen == body


@pytest.mark.parametrize(
    ("member", "value"), [("model", 5), ("model", ""), ("model", "m" * 2000), ("id", {}), ("service_tier", ["x"])]
)
def test_a_wrong_member_does_not_lose_the_usage(member: str, value: Any) -> None:
    body = json.dumps({"usage": {"prompt_tokens": 1, "completion_tokens": 2}, member: value}).encode()
    assert run([body], content_type=JSON)[0] == Reading("reported", None, None, Usage(input=1, output=2), None, None)


def test_no_answer_presumes_the_prompt() -> None:
    presumed = Reading("presumed", "no_answer", None, Usage(input=7), None, None)
    assert Meter(CHAT, FACTS, hide_usage=True).finish(Ending.NO_STATUS) == presumed
    assert Meter(CHAT, FACTS, hide_usage=False).finish(Ending.BROKEN) == presumed
    left = Meter(CHAT, FACTS, hide_usage=False)
    assert (left.feed(b"x"), left.tail()) == (b"x", b"")
    assert left.finish(Ending.CLIENT_LEFT).reason == "client_left"


def test_an_unmetered_endpoint_has_no_meter() -> None:
    with pytest.raises(ValueError, match="models is not metered"):
        Meter(endpoint_of("GET", "models"), FACTS, hide_usage=False)


def test_a_reply_above_the_bound_is_not_kept() -> None:
    body = WholeReply(CHAT_READER, choices_asked=1, max_reply=1000)
    for _ in range(1000):
        body.feed(b'{"content": "abcd"}')
    body.tail()
    assert (body.fault, body.answer.usage) == ("too_large", None)
    assert 50 < body.output_tokens(count_texts) < 100


def test_the_text_of_an_estimate() -> None:
    texts: list[str] = []

    def count(given: Iterable[str]) -> int:
        texts.extend(given)
        return 123

    for body, content_type in ((reply("no_usage"), JSON), (stream("openai_not_asked"), STREAM)):
        meter = Meter(CHAT, FACTS, hide_usage=False)
        meter.start(200, content_type, "")
        meter.feed(body)
        ended = meter.end(Ending.COMPLETE)
        assert isinstance(ended, Uncounted)
        assert ended.written is not None
        assert ended.written.output_tokens(count) == 123
    assert texts == ['The meter runs, and "usage": null counts.', 'The meter runs,\n and "usage" counts.']


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    " GZIP ": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": lambda data: zlib.compress(data, wbits=-15),
    "identity": lambda data: data,
}


@pytest.mark.parametrize("encoding", ENCODERS)
def test_encodings_are_undone_for_reading(encoding: str) -> None:
    encoded = ENCODERS[encoding](reply("audio"))
    for pieces in ([encoded], one_by_one(encoded)):
        assert run(pieces, content_type=JSON, encoding=encoding, hide=True) == (EXPECTED["audio"], encoded)
    data = stream("openai_include_usage")
    encoded = ENCODERS[encoding](data)
    hidden = run([data], hide=True)
    for pieces in ([encoded], one_by_one(encoded), [encoded[:50], b"", encoded[50:]]):
        assert run(pieces, encoding=encoding) == (hidden[0], encoded)
        assert run(pieces, encoding=encoding, hide=True) == hidden


def test_only_a_hidden_stream_is_passed_on_decoded() -> None:
    for hide, content_type, encoding, decodes in [
        (True, STREAM, "gzip", True),
        (True, STREAM, "br", False),
        (True, STREAM, "identity", False),
        (True, JSON, "gzip", False),
        (False, STREAM, "gzip", False),
    ]:
        meter = Meter(CHAT, FACTS, hide_usage=hide)
        meter.start(200, content_type, encoding)
        assert meter.decodes is decodes


def test_gzip_of_several_members_and_what_stands_behind_it() -> None:
    data = reply("azure")
    encoded = gzip.compress(data[:100]) + gzip.compress(data[100:])
    for pieces in [[encoded], one_by_one(encoded), [encoded + b"\x00\x00"], [encoded, b"rest", b"\x1f\x8b"]]:
        assert run(pieces, content_type=JSON, encoding="gzip")[0] == EXPECTED["azure"]


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br", "compress", "?"])
def test_encodings_that_are_not_read(encoding: str) -> None:
    for content_type in (JSON, STREAM):
        reading, seen = run([b"\x01" * 300], content_type=content_type, encoding=encoding, hide=True)
        assert (reading.status, reading.reason, reading.usage) == (
            "estimated",
            "unreadable",
            Usage(input=7, output=100),
        )
        assert seen == b"\x01" * 300
    facts = RequestFacts(prompt_tokens=7, max_output_tokens=20, n=2)
    assert run([b"\x01" * 300], encoding=encoding, facts=facts)[0].usage.output == 40


@given(data=st.binary(max_size=200), encoding=st.sampled_from(["gzip", "deflate"]), hide=st.booleans())
def test_garbage_does_not_raise(data: bytes, encoding: str, hide: bool) -> None:
    for content_type in (JSON, STREAM):
        assert run([data], content_type=content_type, encoding=encoding, hide=hide)[0].status == "estimated"


def test_garbage_in_an_encoding_is_unreadable() -> None:
    for content_type in (JSON, STREAM):
        good = gzip.compress(b"data: x\n\n" * 50)
        for data in (b"plain text", good[:-8] + bytes(8)):
            reading, seen = run([data, b"more"], content_type=content_type, encoding="gzip")
            assert (reading.reason, seen) == ("unreadable", data + b"more")


def test_a_small_body_that_unpacks_to_a_huge_one() -> None:
    bomb = gzip.compress(b" " * 80_000_000)
    reading, seen = run([bomb], content_type=JSON, encoding="gzip")
    assert (reading.reason, seen) == ("too_large", bomb)


@given(data=st.binary(max_size=300))
def test_any_bytes_pass(data: bytes) -> None:
    reading, seen = run([data], content_type=JSON)
    assert (reading.status, seen) == ("estimated", data)


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["id", "model", "usage", "choices", "message", "delta", "content", "tool_calls", "function", "arguments",
             "audio", "transcript", "text", "prompt_tokens", "completion_tokens", "prompt_tokens_details", "cached_tokens", "error"]
        ),
        inner,
        max_size=6,
    ),
    max_leaves=25,
)  # fmt: skip


@given(value=JSONISH)
def test_any_json_is_read(value: Any) -> None:
    body = json.dumps(value).encode()
    assert run([body], content_type=JSON)[1] == body
    assert run([b"data: " + body + b"\n\n"])[1] == b"data: " + body + b"\n\n"
