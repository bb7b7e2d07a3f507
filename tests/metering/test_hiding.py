"""With usage hidden, the client sees exactly what it would have seen without."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.metering import Meter
from proxy.metering.hiding import without_null_usage
from tests.metering.feeding import CHAT, FACTS, STREAM, every_split, one_by_one, run, stream

NAMED = b'data: {"model":"m","choices":[{"delta":{"content":"a"}}]}\n\n'


def hidden(data: bytes) -> bytes:
    return run([data], hide=True)[1]


def event(payload: str) -> bytes:
    return f"data: {payload}\n\n".encode()


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ('{"a": 1, "usage": null}', '{"a": 1}'),
        ('{"usage": null, "a": 1}', '{"a": 1}'),
        ('{"a": 1, "usage": null, "b": 2}', '{"a": 1, "b": 2}'),
        ('{"a":1,"usage":null,"b":2}', '{"a":1,"b":2}'),
        ('{ "a" : 1 , "usage" : null }', '{ "a" : 1 }'),
        ('{ "usage" : null , "a" : 1 }', '{ "a" : 1 }'),
        ('{"usage":null}', "{}"),
        ('{ "usage" : null }', "{}"),
        ('{"usage":null,"usage":null,"a":1}', '{"a":1}'),
        ('{"a":1,"usage":null,"usage":null}', '{"a":1}'),
        ('{"usage":null,"a":1,"usage":null,"b":2,"usage":null}', '{"a":1,"b":2}'),
        ('{"a":1,"\\u0075sage":null}', '{"a":1}'),
        ('{"a":"\\\\","usage":null}', '{"a":"\\\\"}'),
        ('{"a":{"usage":null},"b":[{"usage":null}],"usage":null}', '{"a":{"usage":null},"b":[{"usage":null}]}'),
        ('{"a":",\\"usage\\":null}","usage":null}', '{"a":",\\"usage\\":null}"}'),
        ('{"a":1,"usage":null,"obfuscation":"xY9"}', '{"a":1,"obfuscation":"xY9"}'),
        ('{"a":[1,{"b":[[]]}],"usage":null,"c":"}"}', '{"a":[1,{"b":[[]]}],"c":"}"}'),
        ('{"choices":[],"prompt_filter_results":[{}],"usage":null}', '{"choices":[],"prompt_filter_results":[{}]}'),
    ],
)
@pytest.mark.parametrize("before", [b"", NAMED], ids=["first", "later"])
def test_a_null_member_goes_with_its_comma_and_blanks(sent: str, shown: str, before: bytes) -> None:
    assert hidden(before + event(sent)) == before + event(shown)


@pytest.mark.parametrize(
    "payload",
    [
        '{"a":{"usage":null}}',
        '{"a":"\\"usage\\":null"}',
        '{"a":"\\\\\\",\\"usage\\":null}"}',
        '{"choices":[{"delta":{}}],"usage":{"prompt_tokens":1,"completion_tokens":2}}',
        '{"usage":{"prompt_tokens":1,"completion_tokens":2}}',
        '{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}',
        '{"a":1,"usage":nul}',
        '[{"usage":null}]',
        '"usage"',
        "[DONE]",
        " [DONE] usage",
        "usage",
    ],
)
@pytest.mark.parametrize("before", [b"", NAMED], ids=["first", "later"])
def test_everything_else_stays(payload: str, before: bytes) -> None:
    assert hidden(before + event(payload)) == before + event(payload)


EXTRA = '{"choices": [ ], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}'


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (f"data: {EXTRA}\n\ndata: [DONE]\n\n", "data: [DONE]\n\n"),
        (f"data: {EXTRA}\r\n\r\ndata: [DONE]\r\n\r\n", "data: [DONE]\r\n\r\n"),
        (f"data: {EXTRA}\r\rdata: [DONE]\r\r", "data: [DONE]\r\r"),
        (f"id: 4\nevent: x\ndata: {EXTRA}\n\n", ""),
        (f": still here\ndata: {EXTRA}\n\n", ": still here\n"),
        (f"data: {EXTRA}\n: still here\nid: 4\n\n", ": still here\n"),
        (f"data: {EXTRA}", ""),
        (f"data: {EXTRA}\n", ""),
        ("data: " + EXTRA.replace(" ", "\ndata:  ") + "\n\n", ""),
        (f"\ufeffdata: {EXTRA}\n\ndata: x\n\n", "\ufeffdata: x\n\n"),
        (f"\n\ndata: {EXTRA}\n\n\n", "\n\n\n"),
    ],
)
def test_the_extra_event_goes_as_a_whole(sent: str, shown: str) -> None:
    data = sent.encode()
    for pieces in [[data], one_by_one(data), *every_split(data)]:
        assert run(pieces, hide=True)[1] == shown.encode()


def test_an_event_is_shown_as_soon_as_it_is_whole() -> None:
    for line_end in (b"\n", b"\r\n", b"\r"):
        meter = Meter(CHAT, FACTS, hide_usage=True)
        meter.start(200, STREAM, "")
        for block in [b'data: {"model":"m","usage":null}', b'data: {"a":1,"usage":null}', b": x", b"data: [DONE]"]:
            whole = block + line_end * 2
            last = len(line_end)  # of a \r\n the \r is enough
            assert meter.feed(whole[:-last]) == b""
            shown = meter.feed(whole[-last:])
            assert shown.startswith(block.partition(b'"usage"')[0].rstrip(b","))
            assert shown.endswith(line_end * 2)
        assert meter.tail() == b""


def test_a_line_of_another_kind_between_data_lines_stays() -> None:
    sent = b'data: {"a": 1,\nid: 7\ndata: "usage": null\n: c\ndata: }\n\n'
    shown = hidden(sent)
    assert b"id: 7\n" in shown
    assert b": c\n" in shown
    assert b"usage" not in shown
    assert json.loads(b"".join(line[6:] for line in shown.splitlines() if line.startswith(b"data:"))) == {"a": 1}


def test_multi_line_events_lose_whole_lines() -> None:
    for style in ({"indent": 2}, {"indent": 0}):
        before = {"a": 1, "b": [{"usage": None}], "c": "x"}
        for position in range(len(before) + 1):
            items = list(before.items())
            items.insert(position, ("usage", None))
            shown = _lines(json.dumps(before, **style))  # type: ignore[arg-type]
            sent = _lines(json.dumps(dict(items), **style))  # type: ignore[arg-type]
            assert hidden(sent) == shown


def _lines(text: str) -> bytes:
    return "".join(f"data: {line}\n" for line in text.split("\n")).encode() + b"\n"


def test_the_streams_on_file() -> None:
    # The same stream with and without, but for the padding.
    assert re.sub(rb',"obfuscation":"\w*"', b"", hidden(stream("openai_include_usage"))) == stream("openai_not_asked")
    shown = hidden(stream("escapes_and_lookalikes"))
    for block, original in zip(shown.split(b"\n\n"), stream("escapes_and_lookalikes").split(b"\n\n"), strict=False):
        if block.startswith(b"data: {"):
            told, sent = json.loads(block[6:]), json.loads(original[6:])
            assert "usage" not in told
            assert told | {"usage": None} == sent
    assert hidden(stream("azure")).count(b"prompt_filter_results") == 1
    assert b'"usage"' not in hidden(stream("azure"))
    assert hidden(stream("usage_in_last_choice")) == stream("usage_in_last_choice")
    assert hidden(stream("crlf_comments_ids")).count(b": almost\r\n") == 1


TEXT = st.text(max_size=12) | st.sampled_from(
    [
        '"usage":null',
        ',"usage":null}',
        "\\",
        '"',
        "\n\n",
        "data: ",
        "usage",
        '{"choices":[],"usage":{}}',
        "\u2028",
        "\x00",
    ]
)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.just("usage"), inner, max_size=3),
    max_leaves=8,
)
CHUNK = st.dictionaries(
    TEXT | st.sampled_from(["choices", "model", "id", "obfuscation"]), VALUE, min_size=1, max_size=6
).filter(lambda chunk: "usage" not in chunk)
STYLE = st.fixed_dictionaries(
    {
        "separators": st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : "), (",\t", ":")]),
        "ensure_ascii": st.booleans(),
    }
)
BETWEEN = st.sampled_from(["", ": keep-alive{0}{0}", "retry: 1{0}{0}", "event: ping{0}data: {{}}{0}{0}", "{0}"])


@st.composite
def two_streams(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """(a stream, the same with include_usage)."""
    line_end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    style: dict[str, Any] = draw(STYLE)
    head = draw(st.sampled_from(["data: ", "data:", "id: 1{0}data: ", "event: m{0}data: ", ": c{0}data: "]))
    without, included = "", ""
    for chunk in draw(st.lists(CHUNK, max_size=5)):
        items = list(chunk.items())
        items.insert(draw(st.integers(0, len(items))), ("usage", None))
        between = draw(BETWEEN)
        for_client, for_us = json.dumps(chunk, **style), json.dumps(dict(items), **style)
        without += (between + head).format(line_end) + for_client + line_end * 2
        included += (between + head).format(line_end) + for_us + line_end * 2
    extra = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}
    included += f"data: {json.dumps(extra, **style)}" + line_end * 2
    end = draw(st.sampled_from(["", f"data: [DONE]{line_end * 2}"]))
    return (without + end).encode(errors="replace"), (included + end).encode(errors="replace")


@settings(max_examples=200, deadline=None)
@given(streams=two_streams(), data=st.data())
def test_hiding_undoes_include_usage(streams: tuple[bytes, bytes], data: st.DataObject) -> None:
    without, included = streams
    assert run([included], hide=True)[1] == without
    assert run(one_by_one(included), hide=True)[1] == without
    at = data.draw(st.integers(0, len(included)))
    reading, seen = run([included[:at], included[at:]], hide=True)
    assert seen == without
    assert reading.status == "reported"


@given(block=st.binary(max_size=200))
def test_any_block_passes(block: bytes) -> None:
    assert without_null_usage(block) == block


def test_many_members_on_many_lines_take_no_time() -> None:
    members = '"usage": null,\n"a": 1,\n' * 40_000
    sent = _lines("{" + members + '"b": 2}')
    shown = hidden(sent)
    assert b"usage" not in shown
    assert shown.count(b'"a": 1') == 40_000


def test_an_error_beside_null_usage_is_read() -> None:
    failed = event('{"error":{"message":"overloaded"},"usage":null}')
    for hide in (False, True):
        assert run([NAMED + failed], hide=hide)[0].reason == "stream_broke"
    assert hidden(NAMED + failed) == NAMED + event('{"error":{"message":"overloaded"}}')
