"""Everything that clients connect to: the listening socket, their connections, and the end of both."""

import asyncio
import logging
import socket
from datetime import UTC, datetime
from typing import Final, cast

from proxy.admission import mint_entry_id
from proxy.deadlines import Deadlines
from proxy.http1 import SeenHeads
from proxy.server.connection import ClientConnection
from proxy.server.forward import Forwarder
from proxy.server.replies import Refused, internal_fault
from proxy.server.request import Request

log = logging.getLogger("taximeter")


class Listener:
    """Accepts until `drain`."""

    def __init__(self, forwarder: Forwarder, deadlines: Deadlines) -> None:
        self.deadlines = deadlines
        self.heads = SeenHeads()
        self.is_draining = False
        self._forwarder = forwarder
        self._connections: set[ClientConnection] = set()
        self._server: asyncio.Server | None = None
        self._empty = asyncio.Event()

    async def listen(self, listener: socket.socket, backlog: int) -> None:
        loop = asyncio.get_running_loop()

        def connection() -> asyncio.Protocol:
            return cast("asyncio.Protocol", ClientConnection(self, loop))

        self._server = await loop.create_server(connection, sock=listener, backlog=backlog)

    async def drain(self, seconds: float) -> int:
        """Let nobody in, serve whoever is there for so many seconds, then let go; how many were cut off."""
        self.is_draining = True
        if self._server is not None:
            self._server.close()
        for connection in tuple(self._connections):
            if connection.is_idle:
                connection.close()
        late = 0
        if self._connections:
            self._empty.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._empty.wait()
            except TimeoutError:
                late = len(self._connections)
                for connection in tuple(self._connections):
                    connection.abort()
        return late

    def came(self, connection: ClientConnection) -> None:
        self._connections.add(connection)

    def left(self, connection: ClientConnection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def serve_at_once(self, request: Request) -> bool:
        """Like `serve`."""
        try:
            return self._forwarder.serve_at_once(request)
        except Exception:
            log.exception(_FAULT)
            _give_up(request)
            return True

    async def serve(self, request: Request) -> None:
        """Whatever breaks in here concerns one request, and is said."""
        try:
            await self._forwarder.serve(request)
        except Exception:
            log.exception(_FAULT)
            _give_up(request)

    def refuse(self, request: Request | None, refused: Refused) -> bytes:
        """The whole reply to what cannot be served as a request, and cannot be followed by another."""
        self._forwarder.refused(refused)
        return refused.last_reply(
            mint_entry_id(datetime.now(UTC)), with_body=request is None or request.head.method != "HEAD"
        )


_FAULT: Final = "internal fault while serving a request"


def _give_up(request: Request) -> None:
    if request.is_replied:
        request.break_off()
    else:
        request.refuse(internal_fault(), mint_entry_id(datetime.now(UTC)))
