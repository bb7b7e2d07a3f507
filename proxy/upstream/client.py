"""One upstream: a pool of connections, a request sent once, an answer read as it comes.

aiohttp's errors end here; outside there are only UpstreamUnreachable and UpstreamTooSlow, which say whether a byte of
the request may have reached the upstream: that decides between "no entry" and "presumed".
"""

import io
import os
from collections.abc import AsyncIterator
from copy import copy
from types import SimpleNamespace

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from proxy.errors import UpstreamTooSlow, UpstreamUnreachable

MAX_HEADER = 64 * 1024  # bytes of one header line; the API's own stay far below
LARGE_BODY = 1024 * 1024  # bytes; from there on a body is written in pieces, so that nobody else waits for it
# Servers close idle connections: uvicorn after 5 s, most others later. Leaving earlier than they do avoids the race.
KEEP_ALIVE_SECONDS = 4.5


class Answer:
    """An upstream's answer whose head has arrived. `raw_headers` as sent, in order; the body is not decoded."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.reason = response.reason or ""
        self.raw_headers = response.raw_headers
        self.content_type = response.headers.get("Content-Type", "")
        self.content_encoding = response.headers.get("Content-Encoding", "")

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises UpstreamUnreachable or UpstreamTooSlow when it stops in the middle."""
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except TimeoutError as error:
            raise UpstreamTooSlow("the upstream went silent in the middle of its answer", sent=True) from error
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamUnreachable("the upstream broke off in the middle of its answer", sent=True) from error

    def close(self) -> None:
        """Give the connection back when the body was read to its end, close it otherwise."""
        if self._response.content.is_eof():
            self._response.release()
        else:
            self._response.close()


class Sending:
    """How far a request got. `began`: bytes of it may have arrived. `reused`: its connection had served before."""

    __slots__ = ("began", "reused")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.began = False
        self.reused = False


class Upstream:
    """A pool for one base URL. Close it when done."""

    def __init__(self, base: str, *, connect_seconds: float, silence_seconds: float) -> None:
        url = URL(base)
        self._origin = str(url.origin())
        self._path = url.raw_path.rstrip("/")
        self._shown = f"{url.host}:{url.port}"
        # Knowing that a connection had served before is what makes a retry safe (see send).
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_note_reuse)
        trace.on_request_headers_sent.append(_note_begin)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_seconds, sock_read=silence_seconds),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            max_line_size=MAX_HEADER,
            max_field_size=MAX_HEADER,
            trace_configs=[trace],
        )

    @property
    def origin(self) -> "Upstream":
        """The same upstream and the same connections, without the path of its base: for paths that bring their own."""
        other = copy(self)
        other._path = ""  # noqa: SLF001 - of its own class
        return other

    async def close(self) -> None:
        await self._session.close()

    async def send(
        self,
        method: str,
        tail: str,
        headers: CIMultiDict[str],
        body: bytes | AsyncIterator[bytes] | None,
        sending: Sending,
    ) -> Answer:
        """Send a request and wait for the answer's head. `tail`: raw path and query after the base, with its slash.

        A kept-alive connection that the upstream closed while it was idle looks like a fault of the request. So a
        request is sent once more, at most once, when its connection had served before, not one byte of an answer
        came, and the body can be sent again.
        """
        try:
            return await self._send_once(
                method, tail, headers, body, sending, may_repeat=not isinstance(body, AsyncIterator)
            )
        except _StaleConnection:
            sending.reset()
            return await self._send_once(method, tail, headers, body, sending, may_repeat=False)

    async def _send_once(
        self,
        method: str,
        tail: str,
        headers: CIMultiDict[str],
        body: bytes | AsyncIterator[bytes] | None,
        sending: Sending,
        *,
        may_repeat: bool,
    ) -> Answer:
        shown = self._shown
        try:
            response = await self._session.request(
                method,
                URL(f"{self._origin}{self._path}{tail}", encoded=True),
                headers=headers,
                data=io.BytesIO(body) if isinstance(body, bytes) and len(body) > LARGE_BODY else body,
                allow_redirects=False,
                trace_request_ctx=sending,
            )
        except aiohttp.ConnectionTimeoutError as error:
            raise UpstreamTooSlow(f"the upstream {shown} does not accept connections", sent=False) from error
        except TimeoutError as error:
            raise UpstreamTooSlow(f"the upstream {shown} did not answer in time", sent=True) from error
        except aiohttp.ClientConnectorCertificateError as error:
            reason = f"its certificate is not trusted: {error.certificate_error}"
            raise UpstreamUnreachable(f"the upstream {shown} cannot be used: {reason}", sent=False) from error
        except aiohttp.ClientConnectorError as error:
            reason = _why(error.os_error)
            raise UpstreamUnreachable(f"the upstream {shown} cannot be reached: {reason}", sent=False) from error
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            # A disconnect in the middle of an answer's head carries that half head instead of a text.
            answered = isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(error.message, str)
            if may_repeat and sending.reused and not answered:
                raise _StaleConnection from error
            reason = "closed the connection without an answer"
            raise UpstreamUnreachable(f"the upstream {shown} {reason}", sent=sending.began) from error
        except aiohttp.ClientError as error:
            reason = f"sent what is no HTTP answer ({type(error).__name__})"
            raise UpstreamUnreachable(f"the upstream {shown} {reason}", sent=sending.began) from error
        return Answer(response)


def _why(error: OSError) -> str:
    """The system's own words. asyncio repeats the address; look-ups of names have negative numbers."""
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or str(error) or type(error).__name__


class _StaleConnection(Exception):  # noqa: N818 - never leaves this file
    pass


async def _note_reuse(
    _session: aiohttp.ClientSession, context: SimpleNamespace, _params: aiohttp.TraceConnectionReuseconnParams
) -> None:
    context.trace_request_ctx.reused = True


async def _note_begin(
    _session: aiohttp.ClientSession, context: SimpleNamespace, _params: aiohttp.TraceRequestHeadersSentParams
) -> None:
    context.trace_request_ctx.began = True
