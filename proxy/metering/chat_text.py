"""The text that a chat model wrote, for an estimate: content, refusals, tool calls, reasoning where it is visible."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from proxy.metering.cut_json import strings_of
from proxy.metering.lenient_json import decode
from proxy.metering.reader import CalledName
from proxy.metering.shapes import CHOICES, PlainChatEvent

_TEXT_MEMBERS: Final = ("content", "refusal", "reasoning_content", "reasoning")
text_of_part = strings_of(*_TEXT_MEMBERS, "arguments", "transcript")


def text_of_reply(data: bytes) -> Iterable[str]:
    return _texts(data, "message")


def text_of_event(data: bytes) -> Iterable[str]:
    return _texts(data, "delta")


def plain_texts(event: PlainChatEvent) -> Sequence[str] | None:
    """What `text_of_event` finds. None: it says more than text, and has to be read."""
    if event.error is not None:
        return None
    choices = event.choices
    if len(choices) == 1:
        delta = choices[0].delta
        if delta is not None and len(delta) == 1 and isinstance(text := delta.get("content"), str):
            return (text,)
    return [text for choice in choices if choice.delta for text in _message_texts(choice.delta)]


def _texts(data: bytes, name: str) -> Iterator[str]:
    decoded = decode(CHOICES, data)
    for choice in _list(None if decoded is None else decoded.choices):
        message = choice.get(name) if isinstance(choice, dict) else None
        if isinstance(message, dict):
            yield from _message_texts(message)


def _message_texts(message: dict[str, Any]) -> Iterator[str]:
    """Everything in a message that the model wrote token by token."""
    for member in _TEXT_MEMBERS:
        value = message.get(member)
        if isinstance(value, str):
            yield value
        for part in _list(value):
            if isinstance(part, dict) and isinstance(part.get("text"), str):
                yield part["text"]
    calls = [call.get("function") for call in _list(message.get("tool_calls")) if isinstance(call, dict)]
    for function in [*calls, message.get("function_call")]:
        if isinstance(function, dict):
            if isinstance(name := function.get("name"), str):
                yield CalledName(name)
            if isinstance(arguments := function.get("arguments"), str):
                yield arguments
    audio = message.get("audio")
    if isinstance(audio, dict) and isinstance(audio.get("transcript"), str):
        yield audio["transcript"]


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
