"""A scripted upstream for the endpoints beside chat: completions, responses (in the background too) and embeddings.

`told` is its own log of what it charged for, as the API counts: (endpoint, model, prompt, cached, completion).
"""

import asyncio
import json
from typing import Any

from proxy.cli.demo_upstream import ALIASES
from proxy.cli.small_http import HttpRequest, SmallHttpServer, http_chunk

TEXT = ("The meter ", "runs while ", "you ride.")
PROMPT, CACHED, COMPLETION = 1500, 1024, 64


class FourEndpoints(SmallHttpServer):
    def __init__(self) -> None:
        super().__init__()
        self.received: list[HttpRequest] = []
        self.told: list[tuple[str, str, int, int, int]] = []
        self.stored: dict[str, dict[str, Any]] = {}
        """Responses by id. Those in the background stay queued until `finish`."""

    def finish(self, response_id: str, status: str = "completed", *, with_usage: bool = True) -> None:
        """The work in the background has ended."""
        response = self.stored[response_id]
        self.stored[response_id] = self._ended(response, status, with_usage=with_usage)

    async def answer(self, request: HttpRequest, writer: asyncio.StreamWriter) -> None:
        self.received.append(request)
        path = request.path.removeprefix("/v1/")
        body = json.loads(request.body) if request.body else {}
        match request.method, path.split("/"):
            case "POST", ["completions"]:
                await self._completion(body, writer)
            case "POST", ["embeddings"]:
                model = self._charge("embeddings", body, cached=0, completion=0)
                data = [{"object": "embedding", "index": 0, "embedding": [0.5, -0.25]}]
                usage = {"prompt_tokens": PROMPT, "total_tokens": PROMPT}
                await _whole(writer, {"object": "list", "data": data, "model": model, "usage": usage})
            case "POST", ["responses"]:
                await self._response(body, writer)
            case "GET", ["responses", response_id] if response_id in self.stored:
                if "stream=true" in request.target:
                    await self._events(writer, self.stored[response_id])
                else:
                    await _whole(writer, self.stored[response_id])
            case "POST", ["responses", response_id, "cancel"] if response_id in self.stored:
                self.finish(response_id, "cancelled", with_usage=False)
                await _whole(writer, self.stored[response_id])
            case _:
                await _whole(writer, {"error": {"message": "no such path", "code": "not_found"}}, "404 Not Found")

    async def _completion(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        model = self._charge("completions", body)
        common = {"id": "cmpl-1", "object": "text_completion", "created": 1795309418, "model": model}
        usage = {
            "prompt_tokens": PROMPT,
            "completion_tokens": COMPLETION,
            "total_tokens": PROMPT + COMPLETION,
            "prompt_tokens_details": {"cached_tokens": CACHED},
        }

        def choice(text: str, finish: str | None) -> dict[str, Any]:
            return {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}

        if not body.get("stream"):
            await _whole(writer, {**common, "choices": [choice("".join(TEXT), "stop")], "usage": usage})
            return
        asked = (body.get("stream_options") or {}).get("include_usage") is True
        silent = {"usage": None} if asked else {}
        events = [{**common, "choices": [choice(text, None)], **silent} for text in TEXT]
        events.append({**common, "choices": [choice("", "stop")], **silent})
        if asked:
            events.append({**common, "choices": [], "usage": usage})
        await _stream(writer, [f"data: {json.dumps(event)}\n\n" for event in events] + ["data: [DONE]\n\n"])

    async def _response(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        background = body.get("background") is True
        response = {
            "id": f"resp_{len(self.stored) + 1}",
            "object": "response",
            "created_at": 1795309418,
            "status": "queued" if background else "in_progress",
            "background": background,
            "error": None,
            "model": ALIASES.get(body["model"], body["model"]),
            "output": [],
            "parallel_tool_calls": True,
            "service_tier": "default",
            "tool_choice": "auto",
            "tools": [],
            "usage": None,
        }
        self._charge("responses", body)
        self.stored[response["id"]] = response if background else self._ended(response, "completed", with_usage=True)
        if body.get("stream"):
            await self._events(writer, self.stored[response["id"]])
        else:
            await _whole(writer, self.stored[response["id"]])

    async def _events(self, writer: asyncio.StreamWriter, response: dict[str, Any]) -> None:
        """All that has happened; a response that has not ended breaks off here, as when its stream is left."""
        began = {**response, "status": "in_progress", "output": [], "usage": None}
        events: list[dict[str, Any]] = [{"type": "response.created", "response": began}]
        if response["output"]:
            place = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "logprobs": []}
            events += [{"type": "response.output_text.delta", "delta": text, **place} for text in TEXT]
        if response["status"] == "completed":
            events.append({"type": "response.completed", "response": response})
        numbered = [{**event, "sequence_number": number} for number, event in enumerate(events)]
        await _stream(writer, [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in numbered])

    def _ended(self, response: dict[str, Any], status: str, *, with_usage: bool) -> dict[str, Any]:
        content = [{"type": "output_text", "text": "".join(TEXT), "annotations": []}]
        usage = {
            "input_tokens": PROMPT,
            "input_tokens_details": {"cached_tokens": CACHED, "cache_write_tokens": 0},
            "output_tokens": COMPLETION,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": PROMPT + COMPLETION,
        }
        message = {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": content}
        ended = {"status": status, "output": [] if status == "failed" else [message]}
        return {**response, **ended, "usage": usage if with_usage else None}

    def _charge(
        self, endpoint: str, body: dict[str, Any], *, cached: int = CACHED, completion: int = COMPLETION
    ) -> str:
        model: str = ALIASES.get(body["model"], body["model"])
        self.told.append((endpoint, model, PROMPT, cached, completion))
        return model


async def _whole(writer: asyncio.StreamWriter, value: object, status: str = "200 OK") -> None:
    body = json.dumps(value).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()


async def _stream(writer: asyncio.StreamWriter, events: list[str]) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    for event in events:
        writer.write(http_chunk(event.encode()))
        await writer.drain()
    writer.write(http_chunk(b""))
    await writer.drain()
