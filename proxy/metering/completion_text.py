"""The text of a text_completion, for an estimate. Whole replies and chunks have the same shape."""

from collections.abc import Iterator, Sequence

from proxy.metering.cut_json import strings_of
from proxy.metering.lenient_json import decode
from proxy.metering.shapes import CHOICES, PlainCompletionEvent

text_of_part = strings_of("text")


def texts(data: bytes) -> Iterator[str]:
    decoded = decode(CHOICES, data)
    choices = None if decoded is None else decoded.choices
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and isinstance(choice.get("text"), str):
            yield choice["text"]


def plain_texts(event: PlainCompletionEvent) -> Sequence[str] | None:
    """What `texts` finds. None: it says more than text, and has to be read."""
    if event.error is not None:
        return None
    return [choice.text for choice in event.choices if choice.text is not None]
