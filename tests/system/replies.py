"""A seeded variety of replies and streams, as bytes on the wire: what upstreams send, and what they could send."""

import json
import random
from pathlib import Path
from typing import Any

from proxy.cli.small_http import http_chunk
from tests.fakes.replay import Recording

RECORDINGS = Path(__file__).parent.parent / "data" / "recordings"
TEXTS = (
    "plain words, ",
    'with "quotes" and \\ backslashes ',
    '{"usage": null, "choices": []} inside of text',
    "línea, 道のり, 🚕 ",
    "\n\n data: [DONE]\n\n",
    "\u2028\u0000\u001f",
    "data:",
    "",
)


def wire(status: str, headers: list[tuple[str, str]], body: bytes, chance: random.Random) -> tuple[bytes, bool]:
    """One of the three ways in which HTTP/1.1 says where a body ends; True when it is the end of the connection."""
    way = chance.choice(("length", "length", "chunked", "close"))
    head = f"HTTP/1.1 {status}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers)
    if way == "length":
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body, False
    if way == "chunked":
        return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + in_chunks(body, chance), False
    return f"{head}Connection: close\r\n\r\n".encode() + body, True


def in_chunks(body: bytes, chance: random.Random) -> bytes:
    cuts = sorted(chance.sample(range(len(body)), min(len(body), chance.randint(0, 6))))
    parts = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    return b"".join(http_chunk(part) for part in parts if part) + http_chunk(b"")


def split(raw: bytes, chance: random.Random) -> tuple[bytes, ...]:
    """Writes of any size: an event, a character, a CRLF may be cut anywhere."""
    cuts = sorted(chance.sample(range(1, len(raw)), min(len(raw) - 1, chance.choice((0, 1, 3, 20)))))
    return tuple(raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True))


def head_lines(content_type: str | None, chance: random.Random) -> list[tuple[str, str]]:
    lines = [
        ("Date", "Sat, 21 Nov 2026 08:00:00 GMT"),
        ("x-request-id", f"req_{chance.getrandbits(64):016x}"),
        ("openai-processing-ms", str(chance.randint(1, 9000))),
        ("X-RateLimit-Remaining-Tokens", "149999"),
        ("Set-Cookie", "__cf_bm=a; path=/; HttpOnly"),
        ("Set-Cookie", "_cfuvid=b; path=/; Secure"),
        ("Server", "cloudflare"),
        ("x-odd-latin", "caf\xe9".encode().decode("latin-1")),
        ("Strict-Transport-Security", "max-age=31536000; includeSubDomains; preload"),
    ]
    chance.shuffle(lines)
    kept = lines[: chance.randint(2, len(lines))]
    return kept if content_type is None else [*kept, ("Content-Type", content_type)]


def whole_reply(chance: random.Random) -> Recording:
    """A JSON reply: a completion with usage of any shape, an error, or something that is no completion at all."""
    kind = chance.choice(("completion",) * 6 + ("error", "garbage", "empty", "binary"))
    status, content_type, body = "200 OK", "application/json", b""
    if kind == "completion":
        body = json.dumps(
            completion(chance), ensure_ascii=chance.random() < 0.5, indent=chance.choice((None, 2))
        ).encode()
    elif kind == "error":
        status = chance.choice(("400 Bad Request", "404 Not Found", "429 Too Many Requests", "503 Service Unavailable"))
        body = b'{"error": {"message": "no", "type": "invalid_request_error", "param": null, "code": null}}'
    elif kind == "garbage":
        body = b'{"usage": {"prompt_tokens": 12, "comp'
    elif kind == "binary":
        content_type, body = "application/octet-stream", chance.randbytes(chance.randint(1, 70_000))
    raw, ends = wire(status, head_lines(content_type, chance), body, chance)
    return Recording(split(raw, chance), ends_connection=ends)


def completion(chance: random.Random) -> dict[str, Any]:
    text = "".join(chance.choices(TEXTS, k=chance.randint(0, 40)))
    usage: Any = {"prompt_tokens": chance.randint(0, 5000), "completion_tokens": chance.randint(0, 900)}
    usage = chance.choice((usage, usage, {**usage, "prompt_tokens": 12.0}, None, {}, "none", {"prompt_tokens": -3}))
    members = [
        ("id", f"chatcmpl-{chance.getrandbits(64):016x}"),
        ("object", "chat.completion"),
        ("model", chance.choice(("gpt-4o-2024-08-06", "ft:gpt-4o-mini-2024-07-18:acme::abc123", "unheard-of"))),
        ("choices", [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]),
        ("usage", usage),
        ("service_tier", chance.choice(("default", "flex", "unknown", None))),
    ]
    chance.shuffle(members)
    return dict(members)


class Style:
    """How one upstream writes: blanks, line ends, escapes, and where `usage` stands in a chunk."""

    def __init__(self, chance: random.Random) -> None:
        self.separators = chance.choice(((",", ":"), (", ", ": ")))
        self.newline = chance.choice(("\n", "\n", "\r\n"))
        self.colon = chance.choice(("data: ", "data:"))
        self.ascii = chance.random() < 0.5
        self.usage_at = chance.choice(("last", "last", "first", "middle"))

    def event(self, chunk: dict[str, Any]) -> str:
        text = json.dumps(chunk, separators=self.separators, ensure_ascii=self.ascii)
        return f"{self.colon}{text}{self.newline * 2}"

    def with_usage(self, chunk: dict[str, Any], usage: Any) -> dict[str, Any]:
        members = list(chunk.items())
        place = {"last": len(members), "first": 0, "middle": len(members) // 2}[self.usage_at]
        members.insert(place, ("usage", usage))
        return dict(members)


def stream(chance: random.Random) -> Recording:
    """A stream as it is without usage (`pieces`) and with (`asked`): otherwise the same, event for event."""
    style = Style(chance)
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini-2024-07-18"}
    plain, asked = [], []
    if chance.random() < 0.2:  # some upstreams begin with a chunk that has no choices and is no usage chunk
        first = {**base, "choices": [], "prompt_filter_results": [{"prompt_index": 0, "usage": None}]}
        plain.append(style.event(first))
        asked.append(style.event(style.with_usage(first, None)))
    for _ in range(chance.randint(1, 30)):
        delta = {"content": chance.choice(TEXTS)}
        chunk = {**base, "choices": [{"index": 0, "delta": delta, "meta": {"usage": None}, "finish_reason": None}]}
        plain.append(style.event(chunk))
        asked.append(style.event(style.with_usage(chunk, None)))
        if chance.random() < 0.1:
            comment = f": keep-alive{style.newline * 2}"
            plain.append(comment)
            asked.append(comment)
    last = {**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    plain.append(style.event(last))
    asked.append(style.event(style.with_usage(last, None)))
    usage = {"prompt_tokens": chance.randint(1, 500), "completion_tokens": chance.randint(1, 90), "total_tokens": 1}
    asked.append(style.event(style.with_usage({**base, "choices": []}, usage)))
    done = f"{style.colon}[DONE]{style.newline * 2}"
    lines = [*head_lines("text/event-stream; charset=utf-8", chance), ("Transfer-Encoding", "chunked")]
    head = "HTTP/1.1 200 OK\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines) + "\r\n"

    def pieces(events: list[str]) -> tuple[bytes, ...]:
        return split(head.encode("latin-1") + in_chunks("".join([*events, done]).encode(), chance), chance)

    return Recording(pieces(plain), pieces(asked))


def recorded(chance: random.Random) -> list[Recording]:
    """What real servers said (see the head of each file's directory), cut anew."""
    found = []
    for path in sorted(RECORDINGS.glob("*.http")):
        raw = path.read_bytes()
        found.append(Recording(split(raw, chance), ends_connection=b"connection: close" in raw.lower()))
    return found
