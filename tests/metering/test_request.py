"""Reading a request never raises and loses nothing; asking for usage changes one member and no other byte."""

import json
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.metering import RequestFacts, ask_for_usage, endpoint_of, read_request
from rates.usage import MAX_QUANTITY
from tests.metering.feeding import CHAT


def facts(body: bytes | str) -> RequestFacts:
    return read_request(CHAT, body if isinstance(body, bytes) else body.encode())


def test_what_a_request_says() -> None:
    body = (
        '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "stream": true, "n": 3,'
        '"stream_options": {"include_usage": true}, "max_tokens": 10, "max_completion_tokens": 20, "service_tier": "flex"}'
    )
    assert facts(body) == RequestFacts(
        model="gpt-4o-mini",
        stream=True,
        include_usage=True,
        max_output_tokens=20,
        n=3,
        service_tier="flex",
        prompt_tokens=-(-len(body) // 3),
        body_is_json=True,
    )


@pytest.mark.parametrize(
    ("member", "field", "expected"),
    [
        ('"model": 5', "model", None),
        ('"model": null', "model", None),
        ('"model": ""', "model", None),
        ('"model": {"a": [1, {"model": "x"}]}', "model", None),
        (f'"model": "{"m" * 1025}"', "model", None),
        ('"model": "mod\\u00e8le"', "model", "modèle"),
        ('"mod\\u0065l": "x"', "model", "x"),
        ('"model": "a", "model": "b"', "model", "b"),
        ('"model": 5, "model": "b"', "model", "b"),
        ('"model": "b", "model": 5', "model", None),
        ('"model": "\\ud800"', "model", None),
        ('"stream": "yes"', "stream", False),
        ('"stream": 1', "stream", False),
        ('"stream": null', "stream", False),
        ('"stream": true', "stream", True),
        ('"stream": true, "stream": false', "stream", False),
        ('"stream_options": {"include_usage": "yes"}', "include_usage", False),
        ('"stream_options": [true]', "include_usage", False),
        ('"stream_options": {"include_usage": true}, "stream_options": {}', "include_usage", False),
        ('"stream_options": {"include_usage": false, "include_usage": true}', "include_usage", True),
        ('"max_tokens": -1', "max_output_tokens", None),
        ('"max_tokens": 0', "max_output_tokens", None),
        ('"max_tokens": 12.0', "max_output_tokens", 12),
        ('"max_tokens": 12.5', "max_output_tokens", None),
        ('"max_tokens": 1e400', "max_output_tokens", None),
        ('"max_tokens": NaN', "max_output_tokens", None),
        ('"max_tokens": true', "max_output_tokens", None),
        ('"max_tokens": "12"', "max_output_tokens", None),
        (f'"max_tokens": 1{"0" * 30}', "max_output_tokens", MAX_QUANTITY),
        (f'"max_tokens": 1{"0" * 9000}', "max_output_tokens", None),
        ('"max_tokens": -1, "max_completion_tokens": 7', "max_output_tokens", 7),
        ('"max_tokens": "x", "max_completion_tokens": 7', "max_output_tokens", 7),
        ('"max_tokens": 9, "max_completion_tokens": 7', "max_output_tokens", 9),
        ('"max_output_tokens": 9', "max_output_tokens", None),
        ('"n": 0', "n", 1),
        ('"n": "2"', "n", 1),
        ('"n": 2', "n", 2),
        ('"service_tier": 1', "service_tier", None),
    ],
)
@pytest.mark.parametrize(
    "around",
    ['{"user": "u", %s, "messages": []}', '{"temperature": NaN, %s}', '{"deep": ' + "[" * 60 + "]" * 60 + ", %s}"],
    ids=["json", "nan", "deep"],
)
def test_one_member(around: str, member: str, field: str, expected: Any) -> None:
    read = facts(around % member)
    assert getattr(read, field) == expected
    assert read.body_is_json


def test_one_wrong_member_loses_no_other() -> None:
    wrong = (
        '{"n": "x", "model": "m", "stream": "x", "service_tier": 5, "max_tokens": "x", "max_completion_tokens": 9,'
        ' "stream_options": 5}'
    )
    read = facts(wrong)
    assert (read.model, read.max_output_tokens, read.n, read.stream, read.service_tier) == ("m", 9, 1, False, None)


@pytest.mark.parametrize(
    "body",
    ["", " ", "x", "[]", "null", '"model"', "5", '{"model": "m"', '{"model": "m"} x', "{'model': 1}", "\ufeff{}"],
)
def test_what_is_no_object(body: str) -> None:
    assert facts(body) == RequestFacts(prompt_tokens=facts(body).prompt_tokens)
    assert ask_for_usage(body.encode()) is None


def test_bytes_that_are_no_text() -> None:
    assert facts(b'{"model": "m", "user": "\xff\xfe"}').model == "m"
    assert facts(b'{"model": "\xff", "stream": true}') == RequestFacts(
        stream=True, body_is_json=True, prompt_tokens=facts(b'{"model": "\xff", "stream": true}').prompt_tokens
    )


def test_the_row_says_which_limits_hold() -> None:
    read = read_request(endpoint_of("POST", "embeddings"), b'{"model": "m", "max_tokens": 5}')
    assert (read.model, read.max_output_tokens) == ("m", 0)
    read = read_request(endpoint_of("POST", "responses"), b'{"max_tokens": 5, "max_output_tokens": 6, "n": 3}')
    assert read.max_output_tokens == 6
    # The API's own default of 16 is not everybody's: a hold takes the configured one.
    assert read_request(endpoint_of("POST", "completions"), b'{"prompt": "a"}').max_output_tokens is None


@pytest.mark.parametrize(
    ("body", "choices"),
    [
        ('{"prompt": "a", "n": 3}', 3),
        ('{"prompt": ["a", "b"], "n": 3}', 6),
        ('{"prompt": ["a"], "n": 2, "best_of": 5}', 5),
        ('{"prompt": [1, 2, 3], "n": 2}', 2),
        ('{"prompt": [[1], [2], [3]]}', 3),
        ('{"prompt": []}', 1),
        ('{"prompt": {}, "n": 2}', 2),
        ('{"prompt": ["a", "b"], "n": 1e300}', MAX_QUANTITY),
    ],
)
def test_a_text_completion_has_choices_for_each_prompt(body: str, choices: int) -> None:
    assert read_request(endpoint_of("POST", "completions"), body.encode()).n == choices


@given(body=st.binary(max_size=200))
def test_any_bytes_are_read(body: bytes) -> None:
    assert read_request(CHAT, body).prompt_tokens >= 0
    asking = ask_for_usage(body)
    assert asking is None or json.loads(asking)["stream_options"]["include_usage"] is True


MEMBER = st.sampled_from(["model", "stream", "stream_options", "include_usage", "max_tokens", "n", "service_tier", "x"])
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(MEMBER, inner, max_size=3),
    max_leaves=8,
)


@given(value=st.dictionaries(MEMBER, VALUE, max_size=7) | VALUE)
def test_any_json_is_read(value: Any) -> None:
    body = json.dumps(value).encode()
    read = read_request(CHAT, body)
    assert read.body_is_json is isinstance(value, dict)
    model = value.get("model") if isinstance(value, dict) else None
    assert read.model == (model if isinstance(model, str) and model else None)
    asking = ask_for_usage(body)
    assert asking is None or json.loads(asking)["stream_options"]["include_usage"] is True


ON = '{"include_usage":true}'


@pytest.mark.parametrize(
    ("body", "asking"),
    [
        ("{}", f'{{"stream_options":{ON}}}'),
        (" { \n} ", f' {{"stream_options":{ON} \n}} '),
        ('{"a": 1}', f'{{"a": 1,"stream_options":{ON}}}'),
        ('{"a": {}}\n', f'{{"a": {{}},"stream_options":{ON}}}\n'),
        ('{\n  "a": 1\n}', f'{{\n  "a": 1,"stream_options":{ON}\n}}'),
        ('{"stream_options": null, "a": 1}', f'{{"stream_options": {ON}, "a": 1}}'),
        ('{"stream_options": {}}', f'{{"stream_options": {ON}}}'),
        ('{"stream_options": { }}', '{"stream_options": {"include_usage":true }}'),
        ('{"stream_options": {"x": 1}}', '{"stream_options": {"x": 1,"include_usage":true}}'),
        ('{"stream_options": {"include_usage": false}}', '{"stream_options": {"include_usage": true}}'),
        ('{"stream_options": {"include_usage": null, "x": 1}}', '{"stream_options": {"include_usage": true, "x": 1}}'),
        ('{"stream_options": {"include\\u005fusage" : false}}', '{"stream_options": {"include\\u005fusage" : true}}'),
        ('{"stream\\u005foptions": {"include_usage": false}}', '{"stream\\u005foptions": {"include_usage": true}}'),
        (
            '{"stream_options": {"include_usage": true}, "stream_options": null}',
            f'{{"stream_options": {{"include_usage": true}}, "stream_options": {ON}}}',
        ),
        (
            '{"stream_options": {"include_usage": true, "include_usage": false}}',
            '{"stream_options": {"include_usage": true, "include_usage": true}}',
        ),
        ('{"x": {"stream_options": {}}}', f'{{"x": {{"stream_options": {{}}}},"stream_options":{ON}}}'),
        ('{"x": "\\"stream_options\\": {}}"}', f'{{"x": "\\"stream_options\\": {{}}}}","stream_options":{ON}}}'),
    ],
)  # fmt: skip
def test_usage_is_asked_for(body: str, asking: str) -> None:
    assert ask_for_usage(body.encode()) == asking.encode()
    assert facts(asking).include_usage


@pytest.mark.parametrize(
    "body",
    [
        '{"stream_options": {"include_usage": true}}',
        '{"stream_options": {"include_usage": false}, "stream_options": {"include_usage": true}}',
        '{"stream_options": {"include_usage": 1}}',
        '{"stream_options": {"include_usage": "false"}}',
        '{"stream_options": 5}',
        '{"stream_options": []}',
        '{"stream_options": "x"}',
        '{"stream_options": false}',
    ],
)
def test_usage_need_not_or_cannot_be_asked_for(body: str) -> None:
    assert ask_for_usage(body.encode()) is None


@given(
    value=st.dictionaries(st.text(max_size=5), VALUE, max_size=5),
    options=st.none() | st.dictionaries(st.text(max_size=5), VALUE, max_size=3),
    position=st.integers(0, 5),
    style=st.sampled_from([{"separators": (",", ":")}, {}, {"indent": 2}, {"indent": "\t"}, {"ensure_ascii": False}]),
    given_options=st.booleans(),
)
def test_only_that_member_changes(
    value: dict[str, Any], options: dict[str, Any] | None, position: int, style: dict[str, Any], given_options: bool
) -> None:
    value.pop("stream_options", None)
    items = list(value.items())
    if given_options:
        items.insert(min(position, len(items)), ("stream_options", options))
    body = json.dumps(dict(items), **style).encode(errors="replace")
    asking = ask_for_usage(body)
    constants: list[str] = []
    expected = json.loads(body, parse_constant=constants.append)
    if constants:  # NaN and Infinity are no JSON
        assert asking is None
        return
    assert asking is not None
    expected["stream_options"] = {**(expected.get("stream_options") or {}), "include_usage": True}
    assert json.loads(asking) == expected


@pytest.mark.parametrize(
    "content",
    [
        "word " * 4_000_000,
        '\\"' * 10_000_000,
        "é" * 10_000_000,
        "\\u00e9" * 3_000_000,
        "data:image/png;base64," + "A" * 20_000_000,
        ";base64," * 2_500_000,
    ],
    ids=["ascii", "escapes", "utf-8", "unicode escapes", "image", "many images"],
)
def test_20_megabytes_take_no_time(content: str) -> None:
    body = f'{{"stream_options": {{"x": 1}}, "messages": [{{"content": "{content}"}}], "model": 5, "n": 2}}'.encode()
    started = perf_counter()
    read = read_request(CHAT, body)
    assert (read.n, read.body_is_json) == (2, True)
    assert ask_for_usage(body) is not None
    assert perf_counter() - started < 10  # about 0.3 s; a loop over bytes in Python would take longer


@pytest.mark.parametrize("inside", ["[],", "[" * 40 + "]" * 40 + ",", '{"a":"b"},'])
def test_megabytes_of_brackets(inside: str) -> None:
    many = inside * (4_000_000 // len(inside))
    body = f'{{"stream_options": null, "messages": [{many}0], "model": 5, "n": 2}}'.encode()
    assert read_request(CHAT, body).n == 2
    assert ask_for_usage(body) is not None


def test_nesting_without_end_is_not_looked_into() -> None:
    deep = '{"model": "m", "messages": ' + "[" * 1_000_000 + "]" * 1_000_000 + ', "stream_options": {}}'
    assert facts(deep).model is None
    assert ask_for_usage(deep.encode()) is None
