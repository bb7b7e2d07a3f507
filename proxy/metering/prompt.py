"""Tokens of a request's prompt, counted with the model's own encoding: for readings where no usage came.

OpenAI publishes the formula of a chat: 3 for each message, its role and content, 1 more with a name, and 3 that prime
the answer (cookbook, "How to count tokens with tiktoken"). The other constants are measured on recorded requests and
their usage: see tests/data/token_pairs.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from proxy.metering.encodings import Tokenizer, tokenizer_for
from proxy.metering.estimate import AUDIO_CHARACTERS_PER_TOKEN
from proxy.metering.image_tokens import image_tokens
from proxy.metering.lenient_json import decode
from proxy.metering.tally import Tally
from proxy.metering.tool_text import declarations, functions_in, schema_text
from rates.usage import MAX_QUANTITY

_MESSAGE = 3
_NAME = 1
_PRIMER = 3
# Models that reason are primed with one token less.
_REASONING = re.compile(r"o[134](?![0-9a-z])|gpt-[5-9]")
_REASONING_PRIMER = 2
# The namespace of functions is a part of the system message, or a message of its own.
_TOOLS = 9
_TOOLS_IN_SYSTEM = 5
_SCHEMA = 1
_CHOSEN = 9
"""A function that has to be called is named once more. The answer is then its arguments alone."""
_FILE = 220
"""A file, whatever is in it: what the recorded ones took, of a page each."""
_CALL = 8
_PARALLEL_CALL = 15
"""A call in a message that has several: they are wrapped once more."""

# A body with more JSON values than this takes too long to decode, and more than any model reads.
_MOST_VALUES = 400_000
# Bytes. Up to here a body that only lenient parsers take is mended.
_MOST_MENDED = 1024 * 1024


class _Request(msgspec.Struct):
    messages: Any = None
    tools: Any = None
    functions: Any = None
    tool_choice: Any = None
    function_call: Any = None
    response_format: Any = None
    prompt: Any = None
    suffix: Any = None
    input: Any = None
    instructions: Any = None
    text: Any = None


_REQUEST = msgspec.json.Decoder(_Request)


@dataclass(frozen=True, slots=True)
class Prompt:
    tokens: int
    chosen: bool
    """One function has to be called: the answer says neither its name nor that it is called."""


def exact_prompt_tokens(endpoint: str, body: bytes, model: str | None) -> int | None:
    """What `count_request` finds, with the encoding of this model. May take half a second: never on an event loop."""
    prompt = count_request(endpoint, body, tokenizer_for(model))
    return None if prompt is None else prompt.tokens


def count_request(endpoint: str, body: bytes, tokenizer: Tokenizer) -> Prompt | None:
    """Total: None for what cannot be counted so (no JSON object, an endpoint without a prompt, far too many values)."""
    count = _COUNTS.get(endpoint)
    if count is None or sum(body.count(mark) for mark in (b",", b"[", b"{")) > _MOST_VALUES:
        return None
    request = _decoded(body)
    if request is None:
        return None
    counter = _Counter(tokenizer)
    try:
        count(counter, request)
    except RecursionError:
        return None
    return Prompt(min(counter.fixed + counter.tally.tokens, MAX_QUANTITY), counter.chosen)


def _decoded(body: bytes) -> _Request | None:
    if len(body) <= _MOST_MENDED:
        return decode(_REQUEST, body)
    try:
        return _REQUEST.decode(body)
    except (ValueError, RecursionError):
        return None


class _Counter:
    """What is counted on the way: `tally` the texts, `fixed` what is no text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.base = tokenizer.base
        self.tally = Tally(tokenizer.encode)
        self.fixed = 0
        self.chosen = False
        self._has_system = False

    def chat(self, request: _Request) -> None:
        for message in _objects(request.messages):
            self.message(message)
        self.tools(functions_in(request.tools) + functions_in(request.functions))
        self.choice(_member(request.tool_choice, "function") or request.function_call)
        self.schema(_member(_member(request.response_format, "json_schema"), "schema"))
        self.prime()

    def responses(self, request: _Request) -> None:
        if isinstance(request.instructions, str):
            self.message({"role": "system", "content": request.instructions})
        if isinstance(request.input, str):
            self.message({"role": "user", "content": request.input})
        for item in _objects(request.input):
            self.item(item)
        self.tools(functions_in(request.tools))
        self.choice(request.tool_choice)
        self.schema(_member(_member(request.text, "format"), "schema"))
        self.prime()

    def completion(self, request: _Request) -> None:
        self.plain(request.prompt)
        self.text(request.suffix)

    def embedding(self, request: _Request) -> None:
        self.plain(request.input)

    def prime(self) -> None:
        self.fixed += _REASONING_PRIMER if _REASONING.match(self.base) else _PRIMER

    def message(self, message: Mapping[str, Any]) -> None:
        self.fixed += _MESSAGE
        self._has_system = self._has_system or message.get("role") in ("system", "developer")
        self.text(message.get("role"))
        self.content(message.get("content"))
        self.text(message.get("refusal"))
        if isinstance(name := message.get("name"), str):
            self.fixed += _NAME
            self.text(name)
        functions = [_member(call, "function") for call in _objects(message.get("tool_calls"))]
        functions += [message["function_call"]] if isinstance(message.get("function_call"), dict) else []
        for function in functions:
            self.fixed += _CALL if len(functions) == 1 else _PARALLEL_CALL
            self.text(_member(function, "name"))
            self.text(_member(function, "arguments"))

    def item(self, item: Mapping[str, Any]) -> None:
        """An item of a response's input: a message, or what came of one (calls, their outputs, reasoning)."""
        if "role" in item:
            self.message(item)
            return
        kind = item.get("type")
        if kind == "reasoning":
            return  # what was thought before is not read again
        if isinstance(kind, str) and kind.endswith("_call"):
            self.fixed += _CALL
        elif isinstance(kind, str) and kind.endswith("_output"):
            self.fixed += _MESSAGE + 1
        for member in ("name", "arguments", "input"):
            self.text(item.get(member))
        for member in ("output", "content", "summary"):
            self.content(item.get(member))

    def content(self, content: object) -> None:
        """A text, or parts: texts, images, audio, files."""
        self.text(content)
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict):
                self.part(part)
            else:
                self.text(part)

    def part(self, part: Mapping[str, Any]) -> None:
        image = part.get("image_url")
        audio = _member(part.get("input_audio"), "data")
        if image is not None:
            url, detail = (image.get("url"), image.get("detail")) if isinstance(image, dict) else (image, None)
            self.fixed += image_tokens(self.base, url, detail or part.get("detail"))
        elif isinstance(audio, str):
            self.fixed += len(audio) // AUDIO_CHARACTERS_PER_TOKEN
        elif part.get("type") in ("file", "input_file"):
            self.fixed += _FILE
        elif part.get("type") == "input_image":  # a file's id
            self.fixed += image_tokens(self.base, None, part.get("detail"))
        else:
            self.text(part.get("text"))
            self.text(part.get("refusal"))

    def tools(self, functions: list[Mapping[str, Any]]) -> None:
        if functions:
            self.fixed += _TOOLS_IN_SYSTEM if self._has_system else _TOOLS
            self.text(declarations(functions))

    def choice(self, function: object) -> None:
        if isinstance(name := _member(function, "name"), str):
            self.chosen = True
            self.fixed += _CHOSEN
            self.text(name)

    def schema(self, schema: object) -> None:
        if isinstance(schema, dict):
            self.fixed += _SCHEMA
            self.text(schema_text(schema))

    def plain(self, prompt: object) -> None:
        """A prompt of /completions or /embeddings: a text, texts, tokens, or lists of tokens."""
        self.text(prompt)
        for one in prompt if isinstance(prompt, list) else ():
            if isinstance(one, list):
                self.fixed += len(one)
            elif isinstance(one, int):
                self.fixed += 1
            else:
                self.text(one)

    def text(self, text: object) -> None:
        if isinstance(text, str):
            self.tally.add(text)


_COUNTS: dict[str, Callable[[_Counter, _Request], None]] = {
    "chat/completions": _Counter.chat,
    "completions": _Counter.completion,
    "responses": _Counter.responses,
    "embeddings": _Counter.embedding,
}


def _objects(value: object) -> Iterator[Mapping[str, Any]]:
    return (each for each in value if isinstance(each, dict)) if isinstance(value, list) else iter(())


def _member(value: object, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None
