"""A small scripted OpenAI-compatible upstream: what `taximeter demo` and the system tests forward to.

The same request always gets the same answer but for its id. It follows the API where billing depends on it: a base
alias is served by its dated snapshot, a fine-tuned id is echoed whole, a stream carries usage only when asked (one
extra last chunk without choices; the others then say `"usage": null`), completion never exceeds `max_tokens`.
`served` is its own log: one line for every completion, with the usage it charged for, told or not.
"""

import asyncio
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from http import HTTPStatus
from itertools import count
from typing import Any

from proxy.cli.small_http import HttpRequest, SmallHttpServer, http_chunk

ALIASES = {
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
}
BASES = frozenset(ALIASES) | frozenset(ALIASES.values())
WORDS = (
    "The",
    " meter",
    " runs",
    " while",
    " you",
    " ride",
    ",",
    " and",
    " every",
    " token",
    " has",
    " its",
    " fare",
    ".",
)
TOKENS_PER_CHUNK = 8


@dataclass(frozen=True, slots=True)
class Served:
    """One completion as the upstream's own books have it. Token counts as the API counts: cached inside prompt."""

    id: str
    model: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    stream: bool
    usage_told: bool

    def usage(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """An answer in the API's error form."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


class ScriptedUpstream(SmallHttpServer):
    """Serves the base models above, every fine-tune of them, and `extra_models`; keys must start with `sk-`."""

    def __init__(self, *, extra_models: frozenset[str] = frozenset(), chunk_seconds: float = 0.0) -> None:
        super().__init__()
        self.extra_models = extra_models
        self.chunk_seconds = chunk_seconds
        self.served: list[Served] = []
        self.received = 0
        """Requests that arrived, refused ones too."""
        self._numbers = count(1)

    async def answer(self, request: HttpRequest, writer: asyncio.StreamWriter) -> None:
        self.received += 1
        try:
            _check_key(request)
            match request.method, request.path:
                case "GET", "/v1/models":
                    await self._whole(writer, 200, self._models())
                case "POST", "/v1/chat/completions":
                    await self._completion(_decode(request.body), writer)
                case method, path:
                    await self._whole(writer, 404, Refused(404, f"Invalid URL ({method} {path})").body)
        except Refused as refused:
            await self._whole(writer, refused.status, refused.body)

    def _models(self) -> dict[str, Any]:
        names = sorted(BASES | self.extra_models)
        data = [{"id": name, "object": "model", "created": 1721172741, "owned_by": "system"} for name in names]
        return {"object": "list", "data": data}

    async def _completion(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        self._check_model(body.get("model"))
        limit = _max_tokens(body)
        texts = [str(message.get("content") or "") for message in body.get("messages", ())]
        script = zlib.crc32("\n".join(texts).encode())
        # Four characters a token and three tokens a message: near the API's count, never above a proxy's guess.
        prompt = 3 + sum(3 + len(text) // 4 for text in texts)
        tokens = 8 + script % 89 if limit is None else min(8 + script % 89, limit)
        choices = body.get("n") or 1
        stream = body.get("stream") is True
        options = body.get("stream_options")
        asked_usage = isinstance(options, dict) and options.get("include_usage") is True
        served = Served(
            id=f"chatcmpl-{script:08x}{next(self._numbers):08x}",
            model=ALIASES.get(body["model"], body["model"]),
            prompt_tokens=prompt,
            # The API caches prompts from 1,024 tokens up, in steps of 128; every other such prompt is in it here.
            cached_tokens=prompt // 128 * 128 if prompt >= 1024 and script & 1 else 0,
            completion_tokens=tokens * choices,
            stream=stream,
            usage_told=asked_usage if stream else True,
        )
        self.served.append(served)
        finish = "length" if tokens == limit else "stop"
        if stream:
            await self._stream(writer, served, _deltas(tokens, choices, finish))
        else:
            await self._whole(writer, 200, _reply(served, tokens, choices, finish))

    def _check_model(self, model: object) -> None:
        if not isinstance(model, str):
            raise Refused(400, "you must provide a model parameter")
        base = model.split(":")[1] if model.startswith("ft:") else model
        if base not in BASES and model not in self.extra_models:
            message = f"The model `{model}` does not exist or you do not have access to it."
            raise Refused(404, message, code="model_not_found")

    async def _whole(self, writer: asyncio.StreamWriter, status: int, value: object) -> None:
        body = json.dumps(value, indent=2).encode() + b"\n"  # indented, as the API's own whole replies are
        writer.write(_head(status, next(self._numbers), "application/json", f"content-length: {len(body)}") + body)
        await writer.drain()

    async def _stream(self, writer: asyncio.StreamWriter, served: Served, choices: Iterator[dict[str, Any]]) -> None:
        common = _common(served, "chat.completion.chunk")
        usage = {"usage": None} if served.usage_told else {}
        content_type = "text/event-stream; charset=utf-8"
        writer.write(_head(200, next(self._numbers), content_type, "transfer-encoding: chunked"))
        for choice in choices:
            writer.write(_event({**common, "choices": [choice], **usage}))
            await writer.drain()
            if self.chunk_seconds:
                await asyncio.sleep(self.chunk_seconds)
        if served.usage_told:
            writer.write(_event({**common, "choices": [], "usage": served.usage()}))
        writer.write(http_chunk(b"data: [DONE]\n\n") + http_chunk(b""))
        await writer.drain()


def _check_key(request: HttpRequest) -> None:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme != "Bearer" or not key:
        raise Refused(401, "You didn't provide an API key.")
    if not key.startswith("sk-"):
        raise Refused(401, f"Incorrect API key provided: {key[:3]}***.", code="invalid_api_key")


def _decode(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Refused(400, "We could not parse the JSON body of your request.")
    return value


def _max_tokens(body: dict[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        limit = body.get(name)
        if isinstance(limit, int):
            if limit >= 1:
                return limit
            message = f"Invalid '{name}': integer below minimum value. Expected a value >= 1, but got {limit} instead."
            raise Refused(400, message, param=name, code="integer_below_min_value")
    return None


def _words(tokens: int) -> tuple[str, ...]:
    """As many pieces of text as there are tokens."""
    return tuple(WORDS[position % len(WORDS)] for position in range(tokens))


def _common(served: Served, kind: str) -> dict[str, Any]:
    return {
        "id": served.id,
        "object": kind,
        "created": int(datetime.now(UTC).timestamp()),
        "model": served.model,
        "service_tier": "default",
        "system_fingerprint": "fp_scripted",
    }


def _reply(served: Served, tokens: int, choices: int, finish: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": "".join(_words(tokens)), "refusal": None}
    choice = {"message": message, "logprobs": None, "finish_reason": finish}
    return {
        **_common(served, "chat.completion"),
        "choices": [{"index": index, **choice} for index in range(choices)],
        "usage": served.usage(),
    }


def _deltas(tokens: int, choices: int, finish: str) -> Iterator[dict[str, Any]]:
    """The `choices` member of every chunk: first the role, then the text, then the reason for the end."""
    words = _words(tokens)
    texts = ["".join(words[start : start + TOKENS_PER_CHUNK]) for start in range(0, tokens, TOKENS_PER_CHUNK)]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "", "refusal": None}]
    deltas += [{"content": text} for text in texts]
    for index in range(choices):
        for delta in deltas:
            yield {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
        yield {"index": index, "delta": {}, "logprobs": None, "finish_reason": finish}


def _head(status: int, number: int, content_type: str, framing: str) -> bytes:
    return (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        f"date: {format_datetime(datetime.now(UTC), usegmt=True)}\r\n"
        f"content-type: {content_type}\r\n"
        f"{framing}\r\n"
        f"x-request-id: req_{number:08x}\r\n"
        "openai-organization: scripted\r\n"
        "openai-processing-ms: 1\r\n"
        "openai-version: 2020-10-01\r\n"
        "x-ratelimit-limit-requests: 10000\r\n"
        "x-ratelimit-remaining-requests: 9999\r\n"
        "\r\n"
    ).encode()


def _event(value: object) -> bytes:
    """One server-sent event in one HTTP chunk."""
    return http_chunk(f"data: {json.dumps(value, separators=(',', ':'))}\n\n".encode())
