"""The text that a model wrote in a response, for an estimate: messages, refusals, calls, visible reasoning."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from proxy.metering.cut_json import strings_of
from proxy.metering.lenient_json import decode
from proxy.metering.reader import CalledName
from proxy.metering.shapes import OUTPUT, OUTPUT_EVENT, PlainOutputEvent

# Of an item: what a call says, and the lists of parts that have text.
_STRINGS: Final = ("arguments", "input", "code")
_PARTS: Final = ("content", "summary")
_CALLS: Final = ("function_call", "custom_tool_call", "mcp_call", "code_interpreter_call")
_TOLD_OTHERWISE: Final = ("error", "response.output_item.added")
_NO_TEXT: Final = ("response.audio.delta", "response.shell_call_output_content.delta")

text_of_part = strings_of("text", "refusal", "arguments")


def text_of_reply(data: bytes) -> Iterator[str]:
    decoded = decode(OUTPUT, data)
    output = None if decoded is None else decoded.output
    for item in output if isinstance(output, list) else ():
        if isinstance(item, dict):
            yield from _texts_of(item)


def text_of_event(data: bytes) -> Iterable[str]:
    """The text of an event that brings some. What is repeated later (`.done`, `.completed`) is not counted again."""
    event = decode(OUTPUT_EVENT, data)
    if event is None or not isinstance(event.type, str):
        return ()
    if event.type.endswith(".delta") and isinstance(event.delta, str) and event.type not in _NO_TEXT:
        return (event.delta,)
    if event.type == "response.output_item.added" and isinstance(event.item, dict):
        name = event.item.get("name")
        return (CalledName(name),) if event.item.get("type") in _CALLS and isinstance(name, str) else ()
    return ()


def plain_texts(event: PlainOutputEvent) -> Sequence[str] | None:
    """What `text_of_event` finds. None: it says more than text, and has to be read."""
    kind, delta = event.type, event.delta
    if event.error is not None or kind in _TOLD_OTHERWISE:
        return None
    return (delta,) if delta is not None and kind.endswith(".delta") and kind not in _NO_TEXT else ()


def _texts_of(item: dict[str, Any]) -> Iterator[str]:
    if item.get("type") in _CALLS:
        if isinstance(name := item.get("name"), str):
            yield CalledName(name)
        yield from (value for key in _STRINGS if isinstance(value := item.get(key), str))
    for name in _PARTS:
        parts = item.get(name)
        for part in parts if isinstance(parts, list) else ():
            if isinstance(part, dict):
                yield from (text for key in ("text", "refusal") if isinstance(text := part.get(key), str))
