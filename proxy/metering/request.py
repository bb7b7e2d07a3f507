"""What a request says about its cost before it is sent, and how it is made to say what it did cost.

Only the few fields that meter are decoded; the body itself goes on byte for byte, but for one spliced member.
"""

from typing import Final

from proxy.metering.endpoints import Endpoint
from proxy.metering.estimate import count_prompt
from proxy.metering.json_members import BLANKS, Object, scan_object
from proxy.metering.lenient_json import short_name
from proxy.metering.records import RequestFacts
from proxy.metering.shapes import ONE_BY_ONE, OPTIONS, PROMPTS, REQUEST_FIELDS, RequestFields
from rates.usage import MAX_QUANTITY

_ON: Final = b'{"include_usage":true}'


def read_request(endpoint: Endpoint, body: bytes) -> RequestFacts:
    """Never raises. A field of the wrong type counts as missing and loses no other; of two equal keys the last wins."""
    prompt_tokens = count_prompt(body)
    fields = _read_fields(body)
    if fields is None:
        return RequestFacts(prompt_tokens=prompt_tokens)
    most: int | None = None
    if not endpoint.writes:
        most = 0
    else:
        for name in endpoint.output_limits:
            limit = getattr(fields, name)
            if limit is not None and (limit := _count(limit)) is not None and (most is None or limit > most):
                most = limit
    n = 1 if fields.n is None else _count(fields.n) or 1
    if endpoint.name == "completions":
        n = min(max(n, _count(fields.best_of) or 1) * _prompts(body), MAX_QUANTITY)
    return RequestFacts(
        model=short_name(fields.model),
        stream=fields.stream is True,
        include_usage=fields.stream_options is not None and fields.stream_options.include_usage is True,
        max_output_tokens=most,
        n=n,
        service_tier=None if fields.service_tier is None else short_name(fields.service_tier),
        prompt_tokens=prompt_tokens,
        body_is_json=True,
    )


def ask_for_usage(body: bytes) -> bytes | None:
    """The body with `stream_options.include_usage` set to true and no other byte changed.

    None when there is nothing to do (it is true already) or nothing that can be done: no JSON object, or options of a
    type that the upstream should see and refuse.
    """
    try:
        options = bytes(OPTIONS.decode(body).stream_options)
    except (ValueError, RecursionError):
        return None
    if not options:
        return _before_closing_brace(body, b'"stream_options":' + _ON)
    whole = scan_object(body)
    member = whole.last(b"stream_options") if whole is not None else None
    asking = _options_asking(options)
    if member is None or asking is None:
        return None
    return body[: member.value] + asking + body[member.end :]


def _read_fields(body: bytes) -> RequestFields | None:
    try:
        return REQUEST_FIELDS.decode(body)
    except (ValueError, RecursionError):  # a wrong type, or not what this decoder takes for JSON
        pass
    scanned = scan_object(body)
    return None if scanned is None else _read_one_by_one(body, scanned)


def _read_one_by_one(body: bytes, scanned: Object) -> RequestFields:
    fields = RequestFields()
    for key, decoder in ONE_BY_ONE.items():
        member = scanned.last(key)
        if member is not None:
            try:
                setattr(fields, key.decode(), decoder.decode(body[member.value : member.end]))
            except (ValueError, RecursionError):
                continue
    return fields


def _prompts(body: bytes) -> int:
    """How many prompts a text completion has: a list of texts, or of lists of tokens; anything else is one."""
    try:
        prompt = PROMPTS.decode(body).prompt
    except (ValueError, RecursionError):
        return 1
    several = isinstance(prompt, list) and prompt and bytes(prompt[0]).startswith((b'"', b"["))
    return len(prompt) if prompt and several else 1


def _count(number: float | None) -> int | None:
    """A positive whole number, or None. -1 and 0 mean "no limit" to some servers; more than is believable is cut."""
    if number is None or not number > 0 or number != number // 1:
        return None
    return int(min(number, MAX_QUANTITY))


def _options_asking(options: bytes) -> bytes | None:
    """The value of `stream_options` with include_usage on, or None."""
    if options == b"null":
        return _ON
    scanned = scan_object(options)
    if scanned is None:
        return None
    member = scanned.last(b"include_usage")
    if member is None:
        return _before_closing_brace(options, b'"include_usage":true')
    if options[member.value : member.end] not in (b"false", b"null"):
        return None
    return options[: member.value] + b"true" + options[member.end :]


def _before_closing_brace(json_object: bytes, member: bytes) -> bytes:
    inside = json_object.rstrip(BLANKS)[:-1].rstrip(BLANKS)
    comma = b"" if inside.endswith(b"{") else b","
    return inside + comma + member + json_object[len(inside) :]
