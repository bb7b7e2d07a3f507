"""Usage as the endpoints write it: disjoint quantities that add up, or not believed at all."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.metering import usage_readers
from proxy.metering.quantities import chat_usage, embeddings_usage, responses_usage, usual_chat_usage
from proxy.metering.reader import BAD
from proxy.metering.shapes import ChatUsage
from proxy.metering.usage_readers import CHAT, read_chat_reply
from rates.usage import MAX_QUANTITY, Usage


def told(prompt: Any = 10, completion: Any = 5, into: Any = None, out: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "prompt_tokens_details": into,
        "completion_tokens_details": out,
        **more,
    }


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (told(), Usage(input=10, output=5)),
        (told(0, 0), Usage()),
        (told(12.0, 3.0), Usage(input=12, output=3)),
        (told(MAX_QUANTITY, 0), Usage(input=MAX_QUANTITY)),
        (told(into={"cached_tokens": 4}), Usage(input=6, cached_input=4, output=5)),
        (told(into={"cached_tokens": None}), Usage(input=10, output=5)),
        (
            told(into={"cached_tokens": 4, "cache_write_tokens": 3}),
            Usage(input=3, cached_input=4, cache_write=3, output=5),
        ),
        # Parts larger than the whole are cut: cached to the prompt, writes to what is not cached.
        (told(into={"cached_tokens": 99}), Usage(cached_input=10, output=5)),
        (told(into={"cached_tokens": 8, "cache_write_tokens": 8}), Usage(cached_input=8, cache_write=2, output=5)),
        # Audio and images are the prompt's other parts; cached tokens lie in its text first.
        (told(into={"audio_tokens": 4, "image_tokens": 3}), Usage(input=3, audio_input=4, image_input=3, output=5)),
        (
            told(into={"audio_tokens": 4, "image_tokens": 3, "cached_tokens": 8}),
            Usage(cached_input=3, cached_audio_input=4, cached_image_input=1, image_input=2, output=5),
        ),
        (told(into={"audio_tokens": 99, "image_tokens": 99}), Usage(audio_input=10, output=5)),
        (told(out={"audio_tokens": 2, "reasoning_tokens": 3}), Usage(input=10, output=3, audio_output=2)),
        (told(out={"audio_tokens": 99}), Usage(input=10, audio_output=5)),
        # Reasoning is inside the completion, unless the total says that it comes on top.
        (told(out={"reasoning_tokens": 5}, total_tokens=15), Usage(input=10, output=5)),
        (told(out={"reasoning_tokens": 7}, total_tokens=15), Usage(input=10, output=5)),
        (told(out={"reasoning_tokens": 7}, total_tokens=22), Usage(input=10, output=12)),
        (told(total_tokens="many", unknown=[1]), Usage(input=10, output=5)),
    ],
)
def test_parts_are_disjoint(usage: Any, expected: Usage) -> None:
    assert chat_usage(usage) == expected


@pytest.mark.parametrize("number", [-1, 12.5, MAX_QUANTITY + 1, 1e300, float("nan"), float("inf"), "5", True, [], {}])
def test_one_absurd_number_makes_all_unbelievable(number: Any) -> None:
    assert chat_usage(told(number)) == BAD
    assert chat_usage(told(completion=number)) == BAD
    assert chat_usage(told(into={"cached_tokens": number})) == BAD
    assert chat_usage(told(out={"reasoning_tokens": number})) == BAD


@pytest.mark.parametrize("usage", [told(None), told(completion=None), told(into=[1]), told(out="x"), [], "x", 3, False])
def test_half_of_it_is_not_believed(usage: Any) -> None:
    assert chat_usage(usage) == BAD


@pytest.mark.parametrize("usage", [None, {}, told(None, None)])
def test_nothing_said(usage: Any) -> None:
    assert chat_usage(usage) is None


@pytest.mark.parametrize(
    ("into", "expected"),
    [
        ({}, Usage(input=10, output=5)),
        ({"cached_tokens": 4, "cache_write_tokens": 3}, Usage(input=3, cached_input=4, cache_write=3, output=5)),
        (
            {"cache_write_tokens": 6, "cache_write_tokens_details": {"ttl_30m_tokens": 2, "ttl_12h_tokens": 4}},
            Usage(input=4, cache_write=2, cache_write_12h=4, output=5),
        ),
        # Details alone, details that say less, details that say more than there is.
        ({"cache_write_tokens_details": {"ttl_12h_tokens": 4}}, Usage(input=6, cache_write_12h=4, output=5)),
        (
            {"cache_write_tokens": 6, "cache_write_tokens_details": {"ttl_12h_tokens": 4}},
            Usage(input=4, cache_write=2, cache_write_12h=4, output=5),
        ),
        (
            {"cached_tokens": 7, "cache_write_tokens_details": {"ttl_30m_tokens": 9, "ttl_12h_tokens": 9}},
            Usage(cached_input=7, cache_write_12h=3, output=5),
        ),
    ],
)
def test_responses_write_the_same_under_other_names(into: Any, expected: Usage) -> None:
    assert responses_usage({"input_tokens": 10, "output_tokens": 5, "input_tokens_details": into}) == expected


@pytest.mark.parametrize("number", [-1, 12.5, "5", True, []])
def test_absurd_responses_and_embeddings(number: Any) -> None:
    assert responses_usage({"input_tokens": number, "output_tokens": 5}) == BAD
    details = {"cache_write_tokens_details": {"ttl_12h_tokens": number}}
    assert responses_usage({"input_tokens": 10, "output_tokens": 5, "input_tokens_details": details}) == BAD
    assert embeddings_usage({"prompt_tokens": number}) == BAD
    assert embeddings_usage({"total_tokens": number}) == BAD


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": 3}, {"output_tokens": None}])
def test_responses_say_nothing_in_the_words_of_chat(usage: Any) -> None:
    assert responses_usage(usage) is None


QUANTITY = st.integers(0, 50)


@given(prompt=QUANTITY, completion=QUANTITY, parts=st.lists(QUANTITY, min_size=6, max_size=6))
def test_the_parts_add_up_to_the_whole(prompt: int, completion: int, parts: list[int]) -> None:
    cached, written, audio, image, reasoning, spoken = parts
    into = {"cached_tokens": cached, "cache_write_tokens": written, "audio_tokens": audio, "image_tokens": image}
    out = {"reasoning_tokens": reasoning, "audio_tokens": spoken}
    usage = chat_usage(told(prompt, completion, into, out, total_tokens=prompt + completion))
    assert isinstance(usage, Usage)
    quantities = usage.as_dict()
    assert all(quantity > 0 for quantity in quantities.values())
    outputs = quantities.pop("output", 0) + quantities.pop("audio_output", 0)
    assert (sum(quantities.values()), outputs) == (prompt, completion)


NUMBER: st.SearchStrategy[Any] = st.one_of(
    QUANTITY, st.sampled_from([None, 0, -1, 3.0, 2.5, 1e300, MAX_QUANTITY, MAX_QUANTITY + 1, True, "5", [], {}])
)


def table(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.fixed_dictionaries({}, optional=fields), st.sampled_from([None, [], 3]))


KEPT = table(ttl_30m_tokens=NUMBER, ttl_12h_tokens=NUMBER)
INTO = table(
    cached_tokens=NUMBER,
    audio_tokens=NUMBER,
    image_tokens=NUMBER,
    cache_write_tokens=NUMBER,
    cache_write_tokens_details=KEPT,
)
OUT = table(reasoning_tokens=NUMBER, audio_tokens=NUMBER)
USAGE = table(
    prompt_tokens=NUMBER,
    completion_tokens=NUMBER,
    total_tokens=NUMBER,
    prompt_tokens_details=INTO,
    completion_tokens_details=OUT,
    more=NUMBER,
)
REPLY = table(
    id=st.sampled_from(["x", "", None, 3]),
    model=st.sampled_from(["m", None, ["m"], "m" * 2000]),
    service_tier=st.sampled_from(["flex", None, {}]),
    usage=USAGE,
    error=st.sampled_from([None, {"message": "no"}, ""]),
)


@given(REPLY, st.sampled_from([b"", b"\xff", b"\\ud800"]))
def test_what_is_decoded_in_one_go_says_what_a_patient_reading_says(reply: Any, garbage: bytes) -> None:
    data = json.dumps(reply).encode()
    if isinstance(reply, dict):
        data = data[:-1] + (b", " if reply else b"") + b'"content": "%b"}' % garbage
    patient = usage_readers._read_reply(data, chat_usage)
    assert read_chat_reply(data) == patient


@given(USAGE)
def test_usage_that_fits_is_split_as_any_usage(usage: Any) -> None:
    try:
        quick = msgspec.convert(usage, ChatUsage | None)
    except msgspec.ValidationError:
        return
    assert (None if quick is None else usual_chat_usage(quick)) == chat_usage(usage)


@pytest.mark.parametrize(
    ("message", "texts"),
    [
        ('{"content":"a"}', ["a"]),
        ('{"content":"a","refusal":"b","reasoning_content":"c","reasoning":"d"}', ["a", "b", "c", "d"]),
        ('{"role":"assistant","content":null}', []),
        ('{"content":[{"type":"text","text":"a"},{"type":"x"},3]}', ["a"]),
        ('{"content":"a","tool_calls":[{"index":0,"function":{"name":"f","arguments":"{}"}},5,{}]}', ["a", "f", "{}"]),
        ('{"tool_calls":null,"function_call":{"name":"f","arguments":"x"}}', ["f", "x"]),
        ('{"audio":{"id":"1","transcript":"t"}}', ["t"]),
        ('{"content":5,"refusal":{},"tool_calls":"x","audio":[]}', []),
        ('{"content":"a","logprob":NaN}', ["a"]),
        ('{"content":"\\ud800"}', ["?"]),
        ("5", []),
    ],
)
def test_text_is_what_the_model_wrote(message: str, texts: list[str]) -> None:
    assert list(CHAT.text_of_event(f'{{"choices":[{{"delta":{message}}}]}}'.encode())) == texts
    assert list(CHAT.text_of_reply(f'{{"choices":[{{"message":{message}}}]}}'.encode())) == texts


@pytest.mark.parametrize(
    "data", [b"", b"x", b"[]", b"{}", b'{"choices":5}', b'{"choices":[5,null]}', b'{"choices":null}']
)
def test_no_text(data: bytes) -> None:
    assert list(CHAT.text_of_event(data)) == list(CHAT.text_of_reply(data)) == list(CHAT.text_of_part(data)) == []


@pytest.mark.parametrize(
    ("part", "texts"),
    [
        (b'{"choices":[{"message":{"content":"a b', ["a b"]),
        (b'{"content" : "a\\n\\u00e9\\u00', ["a\né"]),
        (b'{"content":"a\\', ["a"]),
        (b'{"content":"a","refusal":null,"arguments":"{\\"content\\":\\"x\\"}"', ["a", '{"content":"x"}']),
        (b'{"content":"\xe6\x97', ["\ufffd"]),
    ],
)
def test_text_of_a_reply_that_is_cut_off(part: bytes, texts: list[str]) -> None:
    assert list(CHAT.text_of_part(part)) == texts
