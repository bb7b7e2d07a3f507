"""The text of a text_completion, for an estimate. Whole replies and chunks have the same shape."""

from collections.abc import Iterator

from proxy.metering.cut_json import strings_of
from proxy.metering.lenient_json import decode
from proxy.metering.shapes import CHOICES

text_of_part = strings_of("text")


def texts(data: bytes) -> Iterator[str]:
    decoded = decode(CHOICES, data)
    choices = None if decoded is None else decoded.choices
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and isinstance(choice.get("text"), str):
            yield choice["text"]
