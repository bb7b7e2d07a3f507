"""Clients that talk to the proxies over plain sockets: whole and streamed, patient ones and ones that leave."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from tests.chaos.upstream import FAULTS
from tests.system.harness import FINE_TUNED

PATIENCE_SECONDS = 90.0
"""After that a client leaves. Longer than any fault lasts: such a client is a finding, counted as `hung`."""


class BrokenOffError(Exception):
    """The reply did not come whole."""


class Line:
    """A client's connection, kept alive. It reads just enough HTTP to know where a reply ends."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        self.port = port
        self._reader = reader
        self._writer = writer
        self.status = 0

    @classmethod
    async def to(cls, port: int) -> "Line":
        return cls(*await asyncio.open_connection("127.0.0.1", port), port)

    async def send(self, request_id: str, body: bytes, key: str) -> None:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: taximeter\r\nauthorization: Bearer {key}\r\n"
        head += f"content-type: application/json\r\nx-client-request-id: {request_id}\r\n"
        self._writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        await self._writer.drain()

    async def head(self) -> dict[str, str]:
        raw = await self._reader.readuntil(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").rstrip().split("\r\n")
        self.status = int(first.split(" ")[1])
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    async def body(self, headers: dict[str, str], pieces: int | None = None) -> bytes:
        """All of it, or so many chunks of it. Raises BrokenOffError when it is not whole."""
        try:
            if headers.get("transfer-encoding") == "chunked":
                return await self._chunks(pieces)
            return await self._reader.readexactly(int(headers["content-length"]))
        except (asyncio.IncompleteReadError, ConnectionError, KeyError) as error:
            raise BrokenOffError from error

    async def _chunks(self, pieces: int | None) -> bytes:
        found: list[bytes] = []
        while pieces is None or len(found) < pieces:
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            data = await self._reader.readexactly(size + 2)
            if not size:
                break
            found.append(data[:-2])
        return b"".join(found)

    async def close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


@dataclass(slots=True)
class Crowd:
    """`clients` of them; each sends, waits, thinks. Every attempt has an id of its own, never used again."""

    ports: Sequence[int]
    seed: int
    clients: int = 40
    think_seconds: float = 0.4
    faults: Sequence[str] = FAULTS
    leavers: bool = True
    outcomes: Counter[str] = field(default_factory=Counter)
    notes: list[dict[str, object]] = field(default_factory=list)
    """Of each attempt that was sent, for who has to find out what became of it."""
    _number: int = 0

    async def run(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for number in range(self.clients):
                group.create_task(
                    self._client(random.Random(f"{self.seed}/{number}"), lambda: time.monotonic() > until)
                )

    async def _client(self, chance: random.Random, is_over: Callable[[], bool]) -> None:
        line: Line | None = None
        port = 0
        key = f"sk-chaos-{chance.randrange(5)}"
        while not is_over():
            await asyncio.sleep(chance.uniform(0, 2 * self.think_seconds))
            if line is None:
                port = chance.choice(self.ports)
                try:
                    line = await Line.to(port)
                except OSError:
                    self.outcomes["no connection"] += 1
                    continue
            stays = False
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    stays = await self._attempt(line, chance, key)
            except TimeoutError:
                self.outcomes["hung"] += 1
            except (ConnectionError, asyncio.IncompleteReadError, BrokenOffError):
                self.outcomes["broken off"] += 1
            if not stays or chance.random() < 0.1:
                await line.close()
                line = None
        if line is not None:
            await line.close()

    async def _attempt(self, line: Line, chance: random.Random, key: str) -> bool:
        """One request; whether the connection can be used again."""
        self._number += 1
        stream = chance.random() < 0.5
        leaves = chance.choice(("sent", "waiting", "head", "middle")) if self.leavers and chance.random() < 0.2 else ""
        fault = chance.choice(self.faults) if self.faults and chance.random() < 0.15 else ""
        # What it holds is never less than what it costs: more words than `prompt` says, and `completion` is obeyed.
        [model] = chance.choices((FINE_TUNED, "gpt-4.1-nano", "gpt-4o-mini"), (0.3, 0.15, 0.55))
        body = {
            "model": model,
            "messages": [{"role": "user", "content": f"To the station, please, by way of {chance.randrange(10**9)}"}],
            "max_tokens": 500,
            "stream": stream,
            "metadata": {
                "prompt": str(chance.randrange(1, 10)),
                "completion": str(chance.randrange(1, 500)),
                "wait": f"{chance.choice((0, 0, 0.05, 0.3)):g}",
                "gap": f"{chance.choice((0, 0.01, 0.1, 0.3)):g}",
                "fault": fault,
            },
        }
        if stream and chance.random() < 0.5:
            body["stream_options"] = {"include_usage": True}
        note = {"id": f"chaos-{self.seed}-{self._number}", "at": time.monotonic(), "to": line.port, "stream": stream}
        note |= {"leaves": leaves, "fault": fault, "status": None, "entry": None}
        self.notes.append(note)
        await line.send(f"chaos-{self.seed}-{self._number}", json.dumps(body).encode(), key)
        if leaves in ("sent", "waiting"):
            await asyncio.sleep(0 if leaves == "sent" else chance.uniform(0, 0.3))
            self.outcomes["left"] += 1
            return False
        headers = await line.head()
        note |= {"status": line.status, "entry": headers.get("x-taximeter-entry")}
        if leaves:
            if leaves == "middle" and stream and line.status == 200:
                await line.body(headers, chance.randrange(1, 5))
            self.outcomes["left"] += 1
            return False
        await line.body(headers)
        self.outcomes[str(line.status)] += 1
        return headers.get("connection", "").lower() != "close"
