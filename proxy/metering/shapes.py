"""What is decoded of requests and replies: only the members that meter.

Apart from who reads them, for mypyc drops the types of a class that is not plain Python, and these are what msgspec
goes by: this module is never compiled.
"""

from typing import Any

import msgspec

ANYTHING = msgspec.json.Decoder()


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class RequestFields(msgspec.Struct):
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | float | None = None
    max_completion_tokens: int | float | None = None
    max_output_tokens: int | float | None = None
    n: int | float | None = None
    best_of: int | float | None = None
    service_tier: str | None = None


class Prompts(msgspec.Struct):
    prompt: list[msgspec.Raw] | str | None = None


class Options(msgspec.Struct):
    stream_options: msgspec.Raw = msgspec.Raw()


REQUEST_FIELDS = msgspec.json.Decoder(RequestFields)
PROMPTS = msgspec.json.Decoder(Prompts)
OPTIONS = msgspec.json.Decoder(Options)
ONE_BY_ONE = {field.name.encode(): msgspec.json.Decoder(field.type) for field in msgspec.structs.fields(RequestFields)}


class Reply(msgspec.Struct):
    """Of a chat completion, a text completion, embeddings."""

    id: Any = None
    model: Any = None
    service_tier: Any = None
    usage: Any = msgspec.UNSET
    error: Any = None


class ReplyEvent(Reply):
    choices: msgspec.Raw = msgspec.Raw()


REPLY = msgspec.json.Decoder(Reply)
REPLY_EVENT = msgspec.json.Decoder(ReplyEvent)


class Choices(msgspec.Struct):
    choices: Any = None


class PlainDelta(msgspec.Struct):
    """The deltas of nearly all events. `role` is not text."""

    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: None = None
    function_call: None = None
    audio: None = None


class PlainChoice(msgspec.Struct):
    delta: PlainDelta | None = None


class PlainEvent(msgspec.Struct):
    choices: list[PlainChoice] = []


CHOICES = msgspec.json.Decoder(Choices)
PLAIN_EVENT = msgspec.json.Decoder(PlainEvent)


class Response(msgspec.Struct):
    """Of the Responses API."""

    id: Any = None
    model: Any = None
    service_tier: Any = None
    status: Any = None
    background: Any = None
    usage: Any = msgspec.UNSET
    tool_usage: Any = None
    error: Any = None
    output: msgspec.Raw = msgspec.Raw()
    tools: msgspec.Raw = msgspec.Raw()


class ResponseEvent(msgspec.Struct):
    type: Any = None
    response: msgspec.Raw = msgspec.Raw()
    error: Any = None


class Output(msgspec.Struct):
    output: Any = None


class OutputEvent(msgspec.Struct):
    type: Any = None
    delta: Any = None
    item: Any = None


RESPONSE = msgspec.json.Decoder(Response)
RESPONSE_EVENT = msgspec.json.Decoder(ResponseEvent)
OUTPUT = msgspec.json.Decoder(Output)
OUTPUT_EVENT = msgspec.json.Decoder(OutputEvent)
