"""Usage as the API writes it (parts inside their whole) into `Usage` (disjoint). Strict: a person typed it.

Invariant: the quantities of the result add up to the prompt and the completion that were given.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from proxy.errors import UsageError
from rates import Usage
from rates.usage import MAX_QUANTITY

_WHOLE_NUMBER = re.compile(r"-?[0-9]+")
_WHOLES = ("prompt_tokens", "input_tokens", "completion_tokens", "output_tokens")


def usage_from_json(text: str) -> Usage:
    """The `usage` object of a reply, chat or responses style. Raises UsageError."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        raise UsageError("--usage: is not JSON") from None
    if not isinstance(body, dict):
        raise UsageError('--usage: must be an object such as {"prompt_tokens": 1000, "completion_tokens": 500}')
    if not any(key in body for key in _WHOLES):
        raise UsageError(f"--usage: has none of {', '.join(_WHOLES)}; give the usage object alone, not the whole reply")
    return _usage(body)


def usage_from_counts(prompt: str | None, cached: str | None, completion: str | None) -> Usage:
    """Counts from the command line; None counts as zero. Raises UsageError."""
    prompt_tokens = typed_count("--prompt-tokens", prompt)
    cached_tokens = typed_count("--cached-tokens", cached)
    if cached_tokens > prompt_tokens:
        raise UsageError(
            f"--cached-tokens {cached_tokens}: is more than --prompt-tokens {prompt_tokens}; "
            "cached tokens are counted inside the prompt"
        )
    return Usage(
        input=prompt_tokens - cached_tokens,
        cached_input=cached_tokens,
        output=typed_count("--completion-tokens", completion),
    )


def typed_count(flag: str, text: str | None) -> int:
    if text is None:
        return 0
    if not _WHOLE_NUMBER.fullmatch(text):
        raise UsageError(f'{flag} "{text}": must be a whole number')
    return _in_range(flag, int(text[:32]))  # enough digits to be out of range


def _usage(body: Mapping[str, Any]) -> Usage:
    prompt = _whole(body, "prompt_tokens", "input_tokens")
    completion = _whole(body, "completion_tokens", "output_tokens")
    parts = _details(body, "prompt_tokens_details", "input_tokens_details", "input_token_details")
    output_parts = _details(body, "completion_tokens_details", "output_tokens_details", "output_token_details")

    cached = _count(parts, "cached_tokens")
    cached_parts = _details(parts, "cached_tokens_details")
    cached_audio, cached_image = _count(cached_parts, "audio_tokens"), _count(cached_parts, "image_tokens")
    written_parts = _details(parts, "cache_write_tokens_details")
    written_12h = _count(written_parts, "ttl_12h_tokens")
    written = _count(parts, "cache_write_tokens") or written_12h + _count(written_parts, "ttl_30m_tokens")
    audio = _rest("cached audio", "audio_tokens", _count(parts, "audio_tokens"), cached_audio)
    image = _rest("cached images", "image_tokens", _count(parts, "image_tokens"), cached_image)
    output_audio, output_image = _count(output_parts, "audio_tokens"), _count(output_parts, "image_tokens")
    return Usage(
        input=_rest("its cached, written, audio and image parts", "the prompt", prompt, cached, written, audio, image),
        cached_input=_rest("its audio and image parts", "cached_tokens", cached, cached_audio, cached_image),
        cache_write=_rest("ttl_12h_tokens", "cache_write_tokens", written, written_12h),
        cache_write_12h=written_12h,
        audio_input=audio,
        cached_audio_input=cached_audio,
        image_input=image,
        cached_image_input=cached_image,
        output=_rest("its audio and image parts", "the completion", completion, output_audio, output_image),
        audio_output=output_audio,
        image_output=output_image,
    )


def _rest(parts_name: str, whole_name: str, whole: int, *parts: int) -> int:
    if sum(parts) > whole:
        raise UsageError(f"--usage: {parts_name} ({sum(parts)}) are more than {whole_name} ({whole})")
    return whole - sum(parts)


def _whole(body: Mapping[str, Any], *names: str) -> int:
    given = {name: _count(body, name) for name in names if body.get(name) is not None}
    if len(set(given.values())) > 1:
        raise UsageError(f"--usage: {' and '.join(given)} differ; they are two names of one count")
    return next(iter(given.values()), 0)


def _details(body: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        details = body.get(name)
        if details is not None:
            if not isinstance(details, dict):
                raise UsageError(f"--usage: {name} must be an object")
            return details
    return {}


def _count(body: Mapping[str, Any], name: str) -> int:
    value = body.get(name)
    if value is None:
        return 0
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"--usage: {name} must be a whole number")
    return _in_range(f"--usage: {name}", value)


def _in_range(what: str, count: int) -> int:
    if count < 0:
        raise UsageError(f"{what} {count}: is below zero")
    if count > MAX_QUANTITY:
        raise UsageError(f"{what} {count}: is more than {MAX_QUANTITY}, which no request uses")
    return count
