"""One upstream: connections kept warm, and attempts that take them. Close it when done.

Socket errors end here; outside there are only UpstreamUnreachable and UpstreamTooSlow, which say whether a byte of the
request may have reached the upstream: that decides between "no entry" and "presumed".
"""

import asyncio
import logging
import os
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from proxy.deadlines import Deadlines
from proxy.errors import UpstreamError, UpstreamTooSlow, UpstreamUnreachable
from proxy.http1 import field_line
from proxy.upstream.attempt import Attempt, Receiver
from proxy.upstream.connection import Connection
from proxy.upstream.dialing import Dialer
from proxy.upstream.route import route_to
from proxy.upstream.tls import context_for

# Servers close idle connections: uvicorn after 5 s, most others later. Leaving earlier than they do avoids the race.
KEEP_ALIVE_SECONDS = 4.5
LONGEST_SECONDS = 300.0
"""A connection's life: then the next one goes where the name leads by now."""

log = logging.getLogger(__name__)


class Upstream:
    """A pool for one base URL. It has no limit: whoever is admitted is sent."""

    def __init__(
        self,
        base: str,
        *,
        connect_seconds: float,
        silence_seconds: float,
        deadlines: Deadlines,
        environ: Mapping[str, str],
        ca_file: Path | None = None,
    ) -> None:
        """Raises UsageError for certificates or a proxy that cannot be used."""
        route = route_to(base, environ)
        self.shown = route.shown
        self.silence_seconds = silence_seconds
        self.deadlines = deadlines
        self._loop = asyncio.get_running_loop()
        self._connect_seconds = connect_seconds
        self._tls = context_for(ca_file) if route.tls else None
        self._host = route.host
        self._dialer = Dialer(route, self._loop)
        self._host_line = field_line("Host", route.authority)
        # To a proxy that passes plain HTTP on, a target names its server.
        through = "" if route.proxy is None or route.tls else f"http://{route.authority}"
        self._at_base = (through + route.path).encode()
        self._at_origin = through.encode()
        self._proxy_line: bytes | None = None
        if through and route.proxy is not None and route.proxy.authorization is not None:
            self._proxy_line = field_line("Proxy-Authorization", route.proxy.authorization)
        self._idle: list[Connection] = []
        self._connections: set[Connection] = set()
        self._dials: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        for dial in self._dials:
            dial.cancel()
        await asyncio.gather(*self._dials, return_exceptions=True)
        for connection in tuple(self._connections):
            connection.close()

    def beginning(self, method: str, tail: str, lines: Sequence[bytes], *, at_origin: bool = False) -> bytes:
        """The beginning of a request's head: its line, the host, and these header lines.

        `tail`: raw path and query after the base (or, `at_origin`, after its origin). What frames the body, and the
        blank line, are to follow.
        """
        prefix = self._at_origin if at_origin else self._at_base
        request_line = b"%b %b%b HTTP/1.1" % (method.encode(), prefix, tail.encode() or b"/" * (not prefix))
        own = (self._host_line,) if self._proxy_line is None else (self._host_line, self._proxy_line)
        return b"\r\n".join([request_line, *own, *lines, b""])

    def send(
        self,
        method: str,
        tail: str,
        lines: Sequence[bytes],
        body: bytes | None,
        receiver: Receiver,
        *,
        at_origin: bool = False,
        upgrade: bool = False,
    ) -> Attempt:
        """Send a request. `lines` have what frames the body. `body` None: it will be streamed."""
        head = self.beginning(method, tail, lines, at_origin=at_origin) + b"\r\n"
        return self.send_head(method, head, body, receiver, upgrade=upgrade)

    def send_head(
        self, method: str, head: bytes, body: bytes | None, receiver: Receiver, *, upgrade: bool = False
    ) -> Attempt:
        """The same, with its head as it goes out."""
        attempt = Attempt(method, head, body, receiver, upgrade=upgrade)
        connection = self._take()
        if connection is not None:
            connection.carry(attempt)
        else:
            self._dial_for(attempt)
        return attempt

    def give_back(self, connection: Connection) -> None:
        if self._tls is not None and connection.served == 1:
            # TLS 1.3 sends its tickets after the handshake: by the first answer they are there.
            self._tls.session = connection.transport.get_extra_info("ssl_object").session
        now = self._loop.time()
        if now - connection.made_at > LONGEST_SECONDS:
            connection.close()
            return
        connection.deadline = now + KEEP_ALIVE_SECONDS
        self._idle.append(connection)

    def repeat(self, attempt: Attempt) -> None:
        """Once more, on a new connection: the last one took nothing of it."""
        self._dial_for(attempt)

    def gone(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def _take(self) -> Connection | None:
        """The one used last: it is the least likely to have been closed, and the others may grow old."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable():
                return connection
            connection.close()
        return None

    def _dial_for(self, attempt: Attempt) -> None:
        dial = self._loop.create_task(self._dial(attempt), name="dial")
        self._dials.add(dial)
        dial.add_done_callback(self._dials.discard)

    async def _dial(self, attempt: Attempt) -> None:
        try:
            connection = await self._connect()
        except UpstreamError as error:
            attempt.fail(error)
            return
        except asyncio.CancelledError:
            attempt.fail(UpstreamUnreachable("taximeter is ending", sent=False))
            raise
        except Exception:
            log.exception("internal fault while connecting to the upstream %s", self.shown)
            attempt.fail(UpstreamUnreachable(f"internal fault on the way to {self.shown}", sent=False))
            return
        if attempt.over:
            self.give_back(connection)
        elif connection.is_usable():
            connection.carry(attempt)
        else:
            reason = "closed the connection at once"
            attempt.fail(UpstreamUnreachable(f"the upstream {self.shown} {reason}", sent=False))

    async def _connect(self) -> Connection:
        shown = self.shown
        try:
            async with asyncio.timeout(self._connect_seconds):
                connected = await self._dialer.dial()
                try:
                    connection = Connection(self, self._loop)
                    await self._loop.create_connection(
                        lambda: cast("asyncio.Protocol", connection),
                        sock=connected,
                        ssl=self._tls,
                        server_hostname=self._host if self._tls is not None else None,
                    )
                except BaseException:
                    connected.close()
                    raise
        except TimeoutError as error:
            raise UpstreamTooSlow(f"the upstream {shown} does not accept connections", sent=False) from error
        except ssl.SSLCertVerificationError as error:
            reason = f"its certificate is not trusted: {error.verify_message}"
            raise UpstreamUnreachable(f"the upstream {shown} cannot be used: {reason}", sent=False) from error
        except ssl.SSLError as error:
            reason = f"TLS fails: {error.reason or type(error).__name__}"
            raise UpstreamUnreachable(f"the upstream {shown} cannot be used: {reason}", sent=False) from error
        except OSError as error:
            raise UpstreamUnreachable(f"the upstream {shown} cannot be reached: {_why(error)}", sent=False) from error
        self._connections.add(connection)
        return connection


def _why(error: OSError) -> str:
    """The system's own words. asyncio repeats the address; look-ups of names have negative numbers."""
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or str(error) or type(error).__name__
