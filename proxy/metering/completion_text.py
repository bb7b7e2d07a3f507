"""The text of a text_completion, for an estimate. Whole replies and chunks have the same shape."""

from collections.abc import Iterator
from typing import Any

import msgspec

from proxy.metering.cut_json import strings_of
from proxy.metering.lenient_json import decode


class _Choices(msgspec.Struct):
    choices: Any = None


_CHOICES = msgspec.json.Decoder(_Choices)
text_of_part = strings_of("text")


def texts(data: bytes) -> Iterator[str]:
    decoded = decode(_CHOICES, data)
    choices = None if decoded is None else decoded.choices
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and isinstance(choice.get("text"), str):
            yield choice["text"]
