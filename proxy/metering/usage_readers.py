"""The readers of /chat/completions, /completions and /embeddings: from JSON to model, usage and text.

Decoding is partial: only what meters becomes an object, the rest stays bytes. /responses has a file of its own.
"""

import re
from collections.abc import Callable, Iterable
from typing import Final

from proxy.metering import chat_text, completion_text
from proxy.metering.lenient_json import decode, short_name
from proxy.metering.quantities import chat_usage, embeddings_usage, usual_chat_usage
from proxy.metering.reader import PlainEvent, Reader, Said, SaidUsage
from proxy.metering.shapes import ANYTHING, CHAT_REPLY, PLAIN_CHAT_EVENT, PLAIN_COMPLETION_EVENT, REPLY, REPLY_EVENT

_EMPTY_LIST: Final = re.compile(rb"\[[ \t\n\r]*+\]\Z")


def read_chat_reply(data: bytes) -> Said | None:
    """A chat.completion or a text_completion. As nearly all write them, they are decoded in one go."""
    try:
        reply = CHAT_REPLY.decode(data)
    except (ValueError, RecursionError):
        return _read_reply(data, chat_usage)
    usage = reply.usage
    return Said(
        model=reply.model,
        upstream_id=reply.id,
        service_tier=reply.service_tier,
        usage=None if usage is None else usual_chat_usage(usage),
        error=reply.error is not None,
    )


def read_embeddings(data: bytes) -> Said | None:
    """A list of embeddings. They are large, and stay bytes."""
    return _read_reply(data, embeddings_usage)


def _read_reply(data: bytes, usage_of: Callable[[object], SaidUsage]) -> Said | None:
    reply = decode(REPLY, data)
    if reply is None:
        return None
    return Said(
        model=short_name(reply.model),
        upstream_id=short_name(reply.id),
        service_tier=short_name(reply.service_tier),
        usage=usage_of(reply.usage),
        error=reply.error is not None,
    )


def read_chat_event(data: bytes) -> Said | None:
    """A chat.completion.chunk, or a chunk of a text_completion."""
    event = decode(REPLY_EVENT, data)
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


def _finishes(choices: bytes) -> bool:
    decoded = decode(ANYTHING, choices)
    return isinstance(decoded, list) and any(isinstance(one, dict) and one.get("finish_reason") for one in decoded)


def _no_text(_: bytes) -> Iterable[str]:
    return ()


def _never_plain(_: bytes) -> PlainEvent:
    raise ValueError("embeddings come whole")


def _nothing_plain(_: object) -> None:
    """There is no event."""


CHAT = Reader(
    read_chat_reply,
    read_chat_event,
    chat_text.text_of_reply,
    chat_text.text_of_event,
    chat_text.text_of_part,
    PLAIN_CHAT_EVENT.decode,
    chat_text.plain_texts,
)
COMPLETIONS = Reader(
    read_chat_reply,
    read_chat_event,
    completion_text.texts,
    completion_text.texts,
    completion_text.text_of_part,
    PLAIN_COMPLETION_EVENT.decode,
    completion_text.plain_texts,
)
EMBEDDINGS = Reader(read_embeddings, read_embeddings, _no_text, _no_text, _no_text, _never_plain, _nothing_plain)
