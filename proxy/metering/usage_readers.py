"""What a reply says about itself: one Reader an endpoint, from JSON to model, usage and text.

Decoding is partial: only what meters becomes an object, the rest stays bytes. Numbers are believed as a whole or not
at all: one absurd quantity makes the usage `BAD`, and the reading an estimate.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from proxy.metering.chat_text import text_of_event, text_of_part, text_of_reply
from proxy.metering.lenient_json import decode, short_name
from rates.usage import MAX_QUANTITY, Usage

BAD: Final = "bad"
"""Usage came, but is not believed."""


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What one JSON reply, or one event of a stream, says. `usage` None: it says nothing about usage."""

    model: str | None
    upstream_id: str | None
    service_tier: str | None
    usage: Usage | Literal["bad"] | None
    error: bool
    """It has a member `error`, and that is not null."""

    # Of an event alone:
    without_choices: bool = False
    """No choice is in it (an empty list, null, or no such member)."""
    finishes: bool = False
    """It has usage, and a choice in it has its `finish_reason`."""
    extra: bool = False
    """It is the event that `include_usage` adds: `choices` is an empty list and `usage` an object."""
    null_usage: bool = False
    """It has a member `usage`, and that is null."""


@dataclass(frozen=True, slots=True)
class Reader:
    """`read_reply` is for a whole reply, `read_event` for the data of an event; None: that is no JSON object.

    `text_of_reply` and `text_of_event` give the generated text for an estimate; `text_of_part` finds what it can in a
    reply that is cut off.
    """

    read_reply: Callable[[bytes], Said | None]
    read_event: Callable[[bytes], Said | None]
    text_of_reply: Callable[[bytes], Iterable[str]]
    text_of_event: Callable[[bytes], Iterable[str]]
    text_of_part: Callable[[bytes], Iterable[str]]


class _Reply(msgspec.Struct):
    id: Any = None
    model: Any = None
    service_tier: Any = None
    usage: Any = msgspec.UNSET
    error: Any = None


class _Event(_Reply):
    choices: msgspec.Raw = msgspec.Raw()


_REPLY = msgspec.json.Decoder(_Reply)
_EVENT = msgspec.json.Decoder(_Event)
_ANY = msgspec.json.Decoder()
_EMPTY_LIST = re.compile(rb"\[[ \t\n\r]*+\]\Z")


class _NotBelieved(Exception):  # noqa: N818 - a finding
    """A quantity that no request can have."""


def read_chat_reply(data: bytes) -> Said | None:
    """A chat.completion."""
    reply = decode(_REPLY, data)
    if reply is None:
        return None
    return Said(
        model=short_name(reply.model),
        upstream_id=short_name(reply.id),
        service_tier=short_name(reply.service_tier),
        usage=chat_usage(reply.usage),
        error=reply.error is not None,
    )


def read_chat_event(data: bytes) -> Said | None:
    """A chat.completion.chunk."""
    event = decode(_EVENT, data)
    if event is None:
        return None
    choices = bytes(event.choices)
    without_choices = choices in (b"", b"null", b"[]") or _EMPTY_LIST.match(choices) is not None
    has_object = isinstance(event.usage, dict)
    return Said(
        model=short_name(event.model),
        upstream_id=short_name(event.id),
        service_tier=short_name(event.service_tier),
        usage=chat_usage(event.usage),
        error=event.error is not None,
        without_choices=without_choices,
        finishes=has_object and not without_choices and _finishes(choices),
        extra=has_object and without_choices and choices.startswith(b"["),
        null_usage=event.usage is None,
    )


def chat_usage(usage: object) -> Usage | Literal["bad"] | None:
    """`usage` of /chat/completions as disjoint quantities.

    Audio and image tokens are parts of the prompt, the rest of it is text. Cached tokens lie in the text first, then in
    audio, then in images (the API does not say where); cache writes lie in the text that is not cached. A part larger
    than what is left for it is cut to that, so that the parts always add up to `prompt_tokens`; likewise for output.

    Reasoning tokens are inside `completion_tokens`, except where `total_tokens` says that they come on top: xAI counts
    so (docs.x.ai, consumption and rate limits: "counted separately from completion_tokens, but … in the total_tokens").
    """
    if usage is None or usage is msgspec.UNSET:
        return None
    if not isinstance(usage, dict):
        return BAD
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if prompt is None and completion is None:
        return None
    try:
        return _disjoint(_quantity(prompt), _quantity(completion), usage)
    except _NotBelieved:
        return BAD


def _disjoint(prompt: int, completion: int, usage: dict[str, Any]) -> Usage:
    into, out = _details(usage, "prompt_tokens_details"), _details(usage, "completion_tokens_details")
    reasoning = _part(out, "reasoning_tokens")
    if reasoning and usage.get("total_tokens") == prompt + completion + reasoning:
        completion = _quantity(completion + reasoning)
    audio = min(_part(into, "audio_tokens"), prompt)
    image = min(_part(into, "image_tokens"), prompt - audio)
    text = prompt - audio - image
    cached = min(_part(into, "cached_tokens"), prompt)
    cached_text = min(cached, text)
    cached_audio = min(cached - cached_text, audio)
    cached_image = cached - cached_text - cached_audio
    written = min(_part(into, "cache_write_tokens"), text - cached_text)
    audio_output = min(_part(out, "audio_tokens"), completion)
    return Usage(
        input=text - cached_text - written,
        cached_input=cached_text,
        cache_write=written,
        audio_input=audio - cached_audio,
        cached_audio_input=cached_audio,
        image_input=image - cached_image,
        cached_image_input=cached_image,
        output=completion - audio_output,
        audio_output=audio_output,
    )


def _details(usage: dict[str, Any], name: str) -> dict[str, Any]:
    details = usage.get(name)
    if details is None:
        return {}
    if not isinstance(details, dict):
        raise _NotBelieved
    return details


def _part(details: dict[str, Any], name: str) -> int:
    value = details.get(name)
    return 0 if value is None else _quantity(value)


def _quantity(value: object) -> int:
    """A whole number in range. 12.0 is 12; 12.5, "12", true, -1 and null are not believed."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MAX_QUANTITY:
        raise _NotBelieved
    if value != int(value):
        raise _NotBelieved
    return int(value)


def _finishes(choices: bytes) -> bool:
    decoded = decode(_ANY, choices)
    return isinstance(decoded, list) and any(isinstance(one, dict) and one.get("finish_reason") for one in decoded)


CHAT = Reader(read_chat_reply, read_chat_event, text_of_reply, text_of_event, text_of_part)
