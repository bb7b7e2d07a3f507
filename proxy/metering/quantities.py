"""`usage` as the endpoints write it → Usage, in disjoint quantities.

Numbers are believed as a whole or not at all: one absurd quantity makes the usage `BAD`, and the reading an estimate.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final

import msgspec

from proxy.metering.reader import BAD, SaidUsage
from proxy.metering.shapes import CacheWrites, ChatUsage, CompletionDetails, PromptDetails
from rates.usage import MAX_QUANTITY, Usage


class NotBelieved(Exception):  # noqa: N818 - a finding
    """A quantity that no request can have."""


@dataclass(frozen=True, slots=True)
class _Names:
    """What an endpoint calls the prompt, the completion, and their details."""

    prompt: str
    completion: str
    into: str
    out: str


_CHAT: Final = _Names("prompt_tokens", "completion_tokens", "prompt_tokens_details", "completion_tokens_details")
_RESPONSES: Final = _Names("input_tokens", "output_tokens", "input_tokens_details", "output_tokens_details")


def _believed_or_not(read: Callable[[dict[str, Any]], Usage | None]) -> Callable[[object], SaidUsage]:
    """Null and nothing say nothing; what is no object, or holds an absurd number, is not believed."""

    @wraps(read)
    def reading(usage: object) -> SaidUsage:
        if usage is None or usage is msgspec.UNSET:
            return None
        if not isinstance(usage, dict):
            return BAD
        try:
            return read(usage)
        except NotBelieved:
            return BAD

    return reading


@_believed_or_not
def chat_usage(usage: dict[str, Any]) -> Usage | None:
    """`usage` of /chat/completions and /completions."""
    return _disjoint(usage, _CHAT)


@_believed_or_not
def responses_usage(usage: dict[str, Any]) -> Usage | None:
    """`usage` of /responses."""
    return _disjoint(usage, _RESPONSES)


@_believed_or_not
def embeddings_usage(usage: dict[str, Any]) -> Usage | None:
    """`usage` of /embeddings. There is no output, so where a server says only the total, that is the prompt."""
    prompt = usage.get("prompt_tokens")
    if prompt is None:
        prompt = usage.get("total_tokens")
    return None if prompt is None else Usage(input=quantity(prompt))


def _disjoint(usage: dict[str, Any], names: _Names) -> Usage | None:
    """The parts, taken out of what they are inside of.

    Audio and image tokens are parts of the prompt, the rest of it is text. Cached tokens lie in the text first, then in
    audio, then in images (the API does not say where); cache writes lie in the text that is not cached, those kept for
    12 hours among them. A part larger than what is left for it is cut to that, so that the parts always add up to the
    prompt; likewise for output.

    Reasoning tokens are inside the completion, except where `total_tokens` says that they come on top: xAI counts
    so (docs.x.ai, consumption and rate limits: "counted separately from completion_tokens, but … in the total_tokens").
    """
    if usage.get(names.prompt) is None and usage.get(names.completion) is None:
        return None
    into, out = members(usage, names.into), members(usage, names.out)
    kept = members(into, "cache_write_tokens_details")
    return _split(
        quantity(usage.get(names.prompt)),
        quantity(usage.get(names.completion)),
        usage.get("total_tokens"),
        cached=part(into, "cached_tokens"),
        audio=part(into, "audio_tokens"),
        image=part(into, "image_tokens"),
        written=part(into, "cache_write_tokens"),
        half_hour=part(kept, "ttl_30m_tokens"),
        half_day=part(kept, "ttl_12h_tokens"),
        reasoning=part(out, "reasoning_tokens"),
        audio_output=part(out, "audio_tokens"),
    )


def _split(
    prompt: int,
    completion: int,
    total: object,
    *,
    cached: int,
    audio: int,
    image: int,
    written: int,
    half_hour: int,
    half_day: int,
    reasoning: int,
    audio_output: int,
) -> Usage:
    """See `_disjoint`. Raises NotBelieved."""
    if reasoning and total == prompt + completion + reasoning:
        completion = quantity(completion + reasoning)
    audio = min(audio, prompt)
    image = min(image, prompt - audio)
    text = prompt - audio - image
    cached = min(cached, prompt)
    cached_text = min(cached, text)
    cached_audio = min(cached - cached_text, audio)
    cached_image = cached - cached_text - cached_audio
    # Written to the cache: those of which nothing is said are kept for 30 minutes.
    written = min(max(written, half_hour + half_day), text - cached_text)
    half_day = min(half_day, written)
    audio_output = min(audio_output, completion)
    return Usage(
        input=text - cached_text - written,
        cached_input=cached_text,
        cache_write=written - half_day,
        cache_write_12h=half_day,
        audio_input=audio - cached_audio,
        cached_audio_input=cached_audio,
        image_input=image - cached_image,
        cached_image_input=cached_image,
        output=completion - audio_output,
        audio_output=audio_output,
    )


def usual_chat_usage(usage: ChatUsage) -> SaidUsage:
    """The same as `chat_usage` finds, where it is written as nearly all write it."""
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    if prompt is None or completion is None:
        return None if prompt is completion else BAD
    into, out = usage.prompt_tokens_details, usage.completion_tokens_details
    cached = 0
    if into is not None:
        if into.audio_tokens or into.image_tokens or into.cache_write_tokens or into.cache_write_tokens_details:
            return _in_detail(usage, prompt, completion)
        if into.cached_tokens:
            cached = min(prompt, into.cached_tokens)
    if out is not None:
        if out.audio_tokens:
            return _in_detail(usage, prompt, completion)
        if out.reasoning_tokens and usage.total_tokens == prompt + completion + out.reasoning_tokens:
            return _in_detail(usage, prompt, completion)
    if cached:
        return Usage(input=prompt - cached, cached_input=cached, output=completion)
    return Usage(input=prompt, output=completion)


def _in_detail(usage: ChatUsage, prompt: int, completion: int) -> SaidUsage:
    into, out = usage.prompt_tokens_details or PromptDetails(), usage.completion_tokens_details or CompletionDetails()
    kept = into.cache_write_tokens_details or CacheWrites()
    try:
        return _split(
            prompt,
            completion,
            usage.total_tokens,
            cached=into.cached_tokens or 0,
            audio=into.audio_tokens or 0,
            image=into.image_tokens or 0,
            written=into.cache_write_tokens or 0,
            half_hour=kept.ttl_30m_tokens or 0,
            half_day=kept.ttl_12h_tokens or 0,
            reasoning=out.reasoning_tokens or 0,
            audio_output=out.audio_tokens or 0,
        )
    except NotBelieved:
        return BAD


def members(value: dict[str, Any], name: str) -> dict[str, Any]:
    """An object inside of another one; null and nothing are an empty one."""
    found = value.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise NotBelieved
    return found


def part(details: dict[str, Any], name: str) -> int:
    value = details.get(name)
    if value is None:
        return 0
    return value if type(value) is int and 0 <= value <= MAX_QUANTITY else quantity(value)


def quantity(value: object) -> int:
    """A whole number in range. 12.0 is 12; 12.5, "12", true, -1 and null are not believed."""
    if type(value) is int and 0 <= value <= MAX_QUANTITY:  # true is of another type
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MAX_QUANTITY:
        raise NotBelieved
    if value != int(value):
        raise NotBelieved
    return int(value)
