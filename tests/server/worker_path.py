"""A worker's path of a request, from the client's socket to the upstream's and back, without both and without a store.

What stands between is the real thing: listener, gate, admission, exchange, meter, settlement, metrics.
"""

import asyncio
import socket
import time
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast

from prometheus_client import CollectorRegistry

from proxy.admission import Admission, Learned
from proxy.config import BudgetConfig, Config, Secret
from proxy.deadlines import Deadlines
from proxy.errors import StoreAway
from proxy.metrics import Metrics
from proxy.server.caller import Callers
from proxy.server.connection import ClientConnection
from proxy.server.counting import Counting
from proxy.server.desk import Desk
from proxy.server.forward import Forwarder
from proxy.server.listener import Listener
from proxy.server.rules import build_rules
from proxy.server.tasks import Tasks
from proxy.settlement import Settlement
from proxy.store import CallerKey, Store, Waiter
from proxy.upstream import Upstream
from proxy.upstream.connection import Connection

KEY = "tm-" + "k" * 40
OWNER = "bench"


class NoStore:
    """Takes everything, keeps nothing, and grants what it is asked for at once."""

    is_connected = True

    async def find_key(self, digest: str) -> CallerKey:
        return CallerKey(digest=digest, owner=OWNER, created=datetime.now(UTC))

    def ask_hold(self, opened: object, accounts: object, *, waiter: Waiter, times: int = 1) -> StoreAway | None:
        waiter.held()
        return None

    def hold_later(self, opened: object, accounts: object) -> None:
        pass

    def hold_ahead(self, opened: object, accounts: object) -> bool:
        return False

    def clear_ahead(self, accounts: object) -> int:
        return 0

    def begin(self, entry_ids: Sequence[str]) -> Awaitable[None] | None:
        return None

    def settle(self, line: object, accounts: object) -> None:
        pass


class NoTransport:
    """Keeps what is written, until it is taken. `end` is a socket that the system can be asked about."""

    def __init__(self, end: socket.socket) -> None:
        self.written: list[bytes] = []
        self.reads: list[bool] = []  # each time that reading was paused (False) or resumed
        self._end = end

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def taken(self) -> bytes:
        written, self.written = self.written, []
        return b"".join(written)

    def get_extra_info(self, name: str) -> Any:
        return self._end

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def pause_reading(self) -> None:
        self.reads.append(False)

    def resume_reading(self) -> None:
        self.reads.append(True)

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        pass

    def close(self) -> None:
        pass


class WorkerPath:
    """One client's connection, and one to the upstream. Close it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        folder: Path,
        no_store: NoStore | None = None,
        *,
        on_exceed: Literal["refuse", "alert"] = "refuse",
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self._ours = socket.create_connection(listening.getsockname())
            self._theirs, _ = listening.accept()
        budget = BudgetConfig(name="bench", limit_nanos=10**15, period="month", owner=OWNER, on_exceed=on_exceed)
        url = "http://127.0.0.1:1/v1"
        key = Secret("sk-upstream")
        rules = build_rules(
            Config(data_dir=folder, budgets=(budget,), upstream_key=key, upstream=url, provider="openai")
        )
        store, learned = cast("Store", no_store or NoStore()), Learned()
        self.deadlines = Deadlines(loop)
        metrics = Metrics(CollectorRegistry(), at_the_end=loop.call_soon)
        upstream = Upstream(url, connect_seconds=1, silence_seconds=600, deadlines=self.deadlines, environ={})
        callers = Callers(store)
        callers.looked(None, time.monotonic() + 3600)  # what is known of the key stays fresh
        self.desk = Desk(
            loop,
            upstream=upstream,
            settlement=Settlement(store, metrics, learned),
            counting=Counting(),
            metrics=metrics,
            deadlines=self.deadlines,
        )
        self.forwarder = forwarder = Forwarder(
            rules,
            self.desk,
            admission=Admission(store, learned),
            background=cast("Any", None),
            callers=callers,
            tasks=Tasks(),
        )
        self.client, self.upstream = NoTransport(self._ours), NoTransport(self._ours)
        self._loop, self._listener = loop, Listener(forwarder, self.deadlines)
        self.from_client = self.another_client()
        self._made: list[Connection] = []
        self.from_upstream = self.another_upstream()

    def another_client(self) -> ClientConnection:
        """Another connection; what is written to it stands among what is written to the first one."""
        made = ClientConnection(self._listener, self._loop)
        made.connection_made(cast("asyncio.Transport", self.client))
        return made

    def another_upstream(self) -> Connection:
        """Another connection to the upstream, which waits for a request; likewise."""
        made = Connection(self.desk.upstream, self._loop)
        made.connection_made(cast("asyncio.Transport", self.upstream))
        self.desk.upstream.give_back(made)
        self._made.append(made)
        return made

    async def warm(self, request: bytes, reply: bytes) -> None:
        """As a worker is that has served such requests before."""
        for _ in range(4):
            self.from_client.data_received(request)
            while not self.upstream.written:
                await asyncio.sleep(0)
            self.upstream.taken()
            self.from_upstream.data_received(reply)
            assert self.client.taken().startswith(b"HTTP/1.1 200 ")
            await asyncio.sleep(0)

    def one(self, request: bytes, reply: bytes) -> None:
        """A request, and its whole reply."""
        self.from_client.data_received(request)
        self.upstream.written.clear()
        self.from_upstream.data_received(reply)
        self.client.written.clear()

    def close(self) -> None:
        for connection in self._made:
            connection.connection_lost(None)
        self.deadlines.close()
        self._ours.close()
        self._theirs.close()


def with_key(request: bytes) -> bytes:
    """A request of `Bearer sk-bench`, from who has a taximeter key."""
    return request.replace(b"Bearer sk-bench", b"Bearer " + KEY.encode())


BODY = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hi"}],"max_tokens":5%b}'
USAGE = b'"usage":{"prompt_tokens":8,"completion_tokens":1,"total_tokens":9}'
REPLY = b'{"id":"chatcmpl-1","model":"gpt-4o-mini-2024-07-18","choices":[],' + USAGE + b"}"
EVENT = b'data: {"id":"chatcmpl-1","model":"gpt-4o-mini-2024-07-18","choices":[%b],%b}\n\n'


def request(more: bytes = b"", *, lines: bytes = b"") -> bytes:
    body = BODY % more
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-bench\r\n"
    head += lines
    return with_key(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)


def reply(body: bytes = REPLY) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


def chunk(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)
