"""An upstream in a process of its own, with true books: what it has read and what it has answered, whatever dies.

`python -m tests.chaos.upstream PORT LOG`. Each line of LOG is written in one append when it has happened, so it
outlives a kill -9: `read` when a request has come whole, `answered` when the last byte was handed over.

What it does is said by the request's `metadata` (all values are strings): `prompt` and `completion` tokens of the
usage, `id` of the answer, `wait` seconds before the answer, `gap` seconds between the chunks of a stream, and `fault`.
"""

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

from proxy.cli.small_http import HttpRequest, SmallHttpServer, http_chunk

FAULTS = ("broken", "silent", "error", "garbage", "no_usage", "closed")
"""Broken off in the middle; silent after the head; 500 or 429; no HTTP; never usage; closed after a whole answer."""

SERVED = {"gpt-4o-mini": "gpt-4o-mini-2024-07-18", "gpt-4.1-nano": "gpt-4.1-nano-2025-04-14"}
CHUNKS = 6


class Books:
    """Append only; one write a line."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, event: str, request_id: str, **facts: object) -> None:
        line = {"event": event, "id": request_id, "at": time.monotonic(), **facts}
        os.write(self._file, json.dumps(line).encode() + b"\n")


class Upstream(SmallHttpServer):
    def __init__(self, port: int, books: Books) -> None:
        super().__init__(port)
        self._books = books
        self._number = 0

    async def answer(self, request: HttpRequest, writer: asyncio.StreamWriter) -> None:
        request_id = request.headers.get("x-client-request-id", "")
        self._books.write("read", request_id)
        body = json.loads(request.body)
        wanted = body.get("metadata") or {}
        usage = {
            "prompt_tokens": int(wanted.get("prompt", 10)),
            "completion_tokens": int(wanted.get("completion", 10)),
        }
        usage["total_tokens"] = sum(usage.values())
        self._number += 1
        answer = {
            "id": wanted.get("id") or f"chatcmpl-{os.getpid()}-{self._number}",
            "created": 1,
            "model": SERVED.get(body["model"], body["model"]),
        }
        fault = wanted.get("fault", "")
        await asyncio.sleep(float(wanted.get("wait", 0)))
        if fault == "garbage":
            writer.write(b"this is no HTTP\r\n\r\n")
            writer.close()
        elif fault == "error":
            status = 500 if self._number % 2 else 429
            await _whole(writer, status, {"error": {"message": "no", "type": "server_error", "code": None}})
        elif body.get("stream"):
            await _stream(writer, answer, body, usage, fault, float(wanted.get("gap", 0)))
        else:
            message = {"role": "assistant", "content": "taxi " * usage["completion_tokens"]}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            whole = {**answer, "object": "chat.completion", "choices": [choice], "usage": usage}
            if fault == "no_usage":
                del whole["usage"]
            await _whole(writer, 200, whole, fault)
        self._books.write("answered", request_id, usage=usage, fault=fault, stream=bool(body.get("stream")))


async def _whole(writer: asyncio.StreamWriter, status: int, reply: dict[str, Any], fault: str = "") -> None:
    body = json.dumps(reply).encode()
    head = f"HTTP/1.1 {status} {'OK' if status == 200 else 'No'}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
    await _piece(writer, body[: len(body) // 2] if fault in ("broken", "silent") else body, fault)


async def _stream(
    writer: asyncio.StreamWriter,
    answer: dict[str, Any],
    body: dict[str, Any],
    usage: dict[str, int],
    fault: str,
    gap: float,
) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    base = {**answer, "object": "chat.completion.chunk"}
    words = max(1, usage["completion_tokens"] // CHUNKS)
    for number in range(CHUNKS):
        if fault in ("broken", "silent") and number == CHUNKS // 2:
            await _piece(writer, b"", fault)
            return
        delta = {"role": "assistant", "content": "taxi " * words}
        _event(writer, {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        await writer.drain()
        await asyncio.sleep(gap)
    _event(writer, {**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if (body.get("stream_options") or {}).get("include_usage") and fault != "no_usage":
        _event(writer, {**base, "choices": [], "usage": usage})
    writer.write(http_chunk(b"data: [DONE]\n\n"))
    await _piece(writer, http_chunk(b""), fault)


async def _piece(writer: asyncio.StreamWriter, data: bytes, fault: str) -> None:
    """The last that is written of an answer, and what its fault does then."""
    writer.write(data)
    await writer.drain()
    if fault == "silent":
        await asyncio.sleep(3600)
    if fault in ("broken", "closed"):
        writer.close()


def _event(writer: asyncio.StreamWriter, event: dict[str, Any]) -> None:
    writer.write(http_chunk(f"data: {json.dumps(event)}\n\n".encode()))


async def main() -> None:
    port, log = sys.argv[1:]
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    async with Upstream(int(port), Books(Path(log))):
        await stopping.wait()


if __name__ == "__main__":
    uvloop.run(main())
