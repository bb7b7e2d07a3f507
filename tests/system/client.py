"""A plain HTTP client for the tests: what came, byte for byte, and whether it came whole."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

Headers = Mapping[str, str] | Sequence[tuple[str, str]]

KEY = "sk-test-0123456789"
HEADERS = {"authorization": f"Bearer {KEY}"}


@dataclass(frozen=True, slots=True)
class Answer:
    """`headers` keeps every line, in order, names lower-cased. `broken` is set when the body did not come whole."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    broken: bool = False

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> Any:
        """`error.code` of the body."""
        return self.json()["error"]["code"]


class Client:
    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def send(self, method: str, url: str, *, body: bytes | None = None, headers: Headers | None = None) -> Answer:
        async with self._session.request(
            # A file, as aiohttp warns of large bodies of plain bytes.
            method,
            URL(url, encoded=True),  # as it stands: %2F stays %2F
            data=io.BytesIO(body) if body is not None and len(body) > 2**20 else body,
            headers=HEADERS if headers is None else headers,
            allow_redirects=False,
        ) as response:
            pieces, broken = [], False
            try:
                async for piece in response.content.iter_any():
                    pieces.append(piece)
            except aiohttp.ClientPayloadError:
                broken = True
            lines = tuple((name.decode().lower(), value.decode("latin-1")) for name, value in response.raw_headers)
            return Answer(response.status, lines, b"".join(pieces), broken)

    async def chat(self, base_url: str, body: Any, *, headers: Mapping[str, str] | None = None) -> Answer:
        """POST a chat request; `body` is JSON, or bytes to be sent as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = (HEADERS if headers is None else dict(headers)) | {"content-type": "application/json"}
        return await self.send("POST", f"{base_url}/chat/completions", body=data, headers=sent)


@asynccontextmanager
async def client(connections: int = 100) -> AsyncIterator[Client]:
    connector = aiohttp.TCPConnector(limit=connections)
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:
        yield Client(session)
    await asyncio.sleep(0)  # aiohttp closes transports in the next turn of the loop
