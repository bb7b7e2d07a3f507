"""The text of a text_completion, for an estimate. Whole replies and chunks have the same shape."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from proxy.metering.cut_json import strings_of
from proxy.metering.lenient_json import decode


class _Choices(msgspec.Struct):
    choices: Any = None


class _PlainChoice(msgspec.Struct, gc=False):
    text: str | None = None


class _PlainEvent(msgspec.Struct, gc=False):
    choices: list[_PlainChoice] = []
    usage: Any = msgspec.UNSET
    error: Any = None

    def texts(self) -> Sequence[str] | None:
        if self.error is not None:
            return None
        return [choice.text for choice in self.choices if choice.text is not None]


plain_event = msgspec.json.Decoder(_PlainEvent).decode
_CHOICES = msgspec.json.Decoder(_Choices)
text_of_part = strings_of("text")


def texts(data: bytes) -> Iterator[str]:
    decoded = decode(_CHOICES, data)
    choices = None if decoded is None else decoded.choices
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and isinstance(choice.get("text"), str):
            yield choice["text"]
