"""The reader of /responses: a response as a whole, and the events of a stream that carry one.

A stream repeats the response as it stands in `response.created`, `.in_progress` and so on; only the one that ends it
(`response.completed`, `.incomplete`, `.failed`) has final usage. Hosted tools are charged apart from tokens, and are
counted from `tool_usage` where that is there, else from the items of `output`.
"""

from typing import Any, Final

import msgspec
from msgspec.structs import replace

from proxy.metering.lenient_json import decode, short_name
from proxy.metering.quantities import NotBelieved, members, part, responses_usage
from proxy.metering.reader import BAD, Reader, Said
from proxy.metering.responses_text import plain_texts, text_of_event, text_of_part, text_of_reply
from proxy.metering.shapes import ANYTHING, PLAIN_OUTPUT_EVENT, RESPONSE, RESPONSE_EVENT, Response
from rates.usage import Usage

_UNFINISHED: Final = ("queued", "in_progress")
_LAST_EVENTS: Final = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")
_PREVIEW: Final = "web_search_preview"
_SEARCH: Final = "web_search"
_NOTHING: Final = Said(model=None, upstream_id=None, service_tier=None, usage=None, error=False)


def read_response(data: bytes) -> Said | None:
    """A response in one piece. One that is not finished was accepted with `background`: its usage comes later."""
    response = decode(RESPONSE, data)
    return None if response is None else _said(response, unfinished=response.status in _UNFINISHED)


def read_response_event(data: bytes) -> Said | None:
    """An event of a stream. One without a response says nothing, but for an error."""
    event = decode(RESPONSE_EVENT, data)
    if event is None:
        return None
    response = decode(RESPONSE, bytes(event.response)) if event.response else None
    if response is None:
        failed = event.type == "error" or event.error is not None
        return msgspec.structs.replace(_NOTHING, error=True) if failed else _NOTHING
    ends = event.type in _LAST_EVENTS
    # Only with `background` does the upstream go on when nobody reads the stream any more.
    said = _said(response, unfinished=not ends and response.background is True and response.status in _UNFINISHED)
    return msgspec.structs.replace(said, ends=ends)


def _said(response: Response, *, unfinished: bool) -> Said:
    usage, unclear = responses_usage(response.usage), False
    if isinstance(usage, Usage):
        try:
            usage, unclear = _with_tools(usage, response)
        except NotBelieved:
            usage = BAD
    return Said(
        model=short_name(response.model),
        upstream_id=short_name(response.id),
        service_tier=short_name(response.service_tier),
        usage=usage,
        error=response.error is not None,
        failed=response.status == "failed",
        unfinished=unfinished,
        background=response.background if isinstance(response.background, bool) else None,
        search_kind_unclear=unclear,
    )


def _with_tools(usage: Usage, response: Response) -> tuple[Usage, bool]:
    """The usage with the calls of hosted tools; and whether nobody says of what kind its searches are.

    An unclear search counts as a preview search: those are never cheaper.
    """
    told = response.tool_usage if isinstance(response.tool_usage, dict) else {}
    items = _objects(response.output)
    searches = _searches(members(told, _SEARCH).get("num_requests"), items)
    usage = _with_images(usage, told, items)
    usage = replace(usage, file_search_calls=_count(items, "file_search_call"))
    if not searches:
        return usage, False
    kinds = {_PREVIEW if kind.startswith(_PREVIEW) else _SEARCH for kind in _types(response.tools) if _SEARCH in kind}
    if kinds == {_SEARCH}:
        return replace(usage, web_search_calls=searches), False
    return replace(usage, web_search_preview_calls=searches), kinds != {_PREVIEW}


def _searches(told: object, items: list[dict[str, Any]]) -> int:
    """Searches that are charged: the number told, else the items. Opening a page or finding in it is none.

    An item without an action is a search: it is of the time before there were other actions.
    """
    if told is not None:
        return part({_SEARCH: told}, _SEARCH)
    calls = [item.get("action") for item in items if item.get("type") == "web_search_call"]
    return sum(not isinstance(action, dict) or action.get("type") == "search" for action in calls)


def _with_images(usage: Usage, told: dict[str, Any], items: list[dict[str, Any]]) -> Usage:
    """The usage with the tokens of the image tool. They are another model's: few cards price them beside a text model.

    An image whose tokens nobody tells has no price: then the whole has none.
    """
    images = members(told, "image_gen")
    into, output = part(images, "input_tokens"), part(images, "output_tokens")
    if into or output:
        return replace(usage, image_input=usage.image_input + into, image_output=output)
    return replace(usage, unknown_tool_calls=_count(items, "image_generation_call"))


def _count(items: list[dict[str, Any]], kind: str) -> int:
    return sum(item.get("type") == kind for item in items)


def _types(tools: msgspec.Raw) -> set[str]:
    return {kind for tool in _objects(tools) if isinstance(kind := tool.get("type"), str)}


def _objects(raw: msgspec.Raw) -> list[dict[str, Any]]:
    """The objects of a list. Most responses use no tool that is charged: those are not decoded."""
    data = bytes(raw)
    if not any(word in data for word in (b"web_search", b"file_search", b"image_generation", b"\\u00")):
        return []
    decoded = decode(ANYTHING, data)
    return [item for item in decoded if isinstance(item, dict)] if isinstance(decoded, list) else []


RESPONSES = Reader(
    read_response,
    read_response_event,
    text_of_reply,
    text_of_event,
    text_of_part,
    PLAIN_OUTPUT_EVENT.decode,
    plain_texts,
)
