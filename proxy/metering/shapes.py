"""What is decoded of requests and replies: only the members that meter.

Apart from who reads them, for mypyc drops the types of a class that is not plain Python, and these are what msgspec
goes by: this module is never compiled.
"""

from typing import Annotated, Any

import msgspec

from proxy.metering.lenient_json import LONGEST_NAME
from rates.usage import MAX_QUANTITY

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


Quantity = Annotated[int, msgspec.Meta(ge=0, le=MAX_QUANTITY)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_NAME)]


class CacheWrites(msgspec.Struct):
    ttl_30m_tokens: Quantity | None = None
    ttl_12h_tokens: Quantity | None = None


class PromptDetails(msgspec.Struct):
    cached_tokens: Quantity | None = None
    audio_tokens: Quantity | None = None
    image_tokens: Quantity | None = None
    cache_write_tokens: Quantity | None = None
    cache_write_tokens_details: CacheWrites | None = None


class CompletionDetails(msgspec.Struct):
    reasoning_tokens: Quantity | None = None
    audio_tokens: Quantity | None = None


class ChatUsage(msgspec.Struct):
    """`usage` of /chat/completions as nearly all write it."""

    prompt_tokens: Quantity | None = None
    completion_tokens: Quantity | None = None
    total_tokens: Quantity | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None


class ChatReply(msgspec.Struct):
    """A chat completion as nearly all write it."""

    id: Name | None = None
    model: Name | None = None
    service_tier: Name | None = None
    usage: ChatUsage | None = None
    error: Any = None


class ReplyEvent(Reply):
    choices: msgspec.Raw = msgspec.Raw()


REPLY = msgspec.json.Decoder(Reply)
CHAT_REPLY = msgspec.json.Decoder(ChatReply)
REPLY_EVENT = msgspec.json.Decoder(ReplyEvent)


class Choices(msgspec.Struct):
    choices: Any = None


class PlainChoice(msgspec.Struct, gc=False):
    delta: dict[str, Any] | None = None


class PlainChatEvent(msgspec.Struct, gc=False):
    """An event of a chat, as nearly all of a stream are: decoded once, for its text and for what it says of usage."""

    choices: list[PlainChoice] = []
    usage: Any = msgspec.UNSET
    error: Any = None


class PlainCompletionChoice(msgspec.Struct, gc=False):
    text: str | None = None


class PlainCompletionEvent(msgspec.Struct, gc=False):
    """The same of a text completion."""

    choices: list[PlainCompletionChoice] = []
    usage: Any = msgspec.UNSET
    error: Any = None


CHOICES = msgspec.json.Decoder(Choices)
PLAIN_CHAT_EVENT = msgspec.json.Decoder(PlainChatEvent)
PLAIN_COMPLETION_EVENT = msgspec.json.Decoder(PlainCompletionEvent)


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


class PlainOutputEvent(msgspec.Struct, gc=False):
    """An event of a response that may say nothing but text. Usage stands in the response that an event carries."""

    usage: Any = msgspec.field(name="response", default=msgspec.UNSET)
    type: str = ""
    delta: str | None = None
    error: Any = None


RESPONSE = msgspec.json.Decoder(Response)
RESPONSE_EVENT = msgspec.json.Decoder(ResponseEvent)
OUTPUT = msgspec.json.Decoder(Output)
OUTPUT_EVENT = msgspec.json.Decoder(OutputEvent)
PLAIN_OUTPUT_EVENT = msgspec.json.Decoder(PlainOutputEvent)
