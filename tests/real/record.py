"""Writes tests/data/recordings anew: what the real parts of setup.sh answer, byte for byte. `record.py [DIR]`."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

from tests.real.parts import Part, aimock, llmock, running, smollm2  # noqa: E402

FINE_TUNED = "ft:gpt-4o-mini-2024-07-18:acme::abc123"
BODY = {"model": FINE_TUNED, "max_tokens": 24, "messages": [{"role": "user", "content": "thousand: say hello"}]}
ASKED: dict[str, dict[str, Any]] = {
    "whole": BODY,
    "stream": BODY | {"stream": True},
    "stream-usage": BODY | {"stream": True, "stream_options": {"include_usage": True}},
    "no-json": {},
}


async def exchange(port: int, body: bytes) -> bytes:
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer sk-test\r\n"
    head += f"content-type: application/json\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.encode() + body)
    answer = await reader.read()
    writer.close()
    return answer


async def record(part: Part) -> None:
    async with running(part) as port:
        for name, body in ASKED.items():
            raw = b'{"model": ' if name == "no-json" else json.dumps(body).encode()
            path = ROOT / "tests" / "data" / "recordings" / f"{part.name}-{name}.http"
            path.write_bytes(await exchange(port, raw))
            print(path)


async def main() -> None:
    for part in (smollm2(), aimock(), llmock()):
        await record(part)


if __name__ == "__main__":
    asyncio.run(main())
