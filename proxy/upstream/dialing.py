"""A connected socket to the upstream. Names are looked up anew every half minute; of several addresses the first one
that answers is taken (RFC 8305), so that one family that goes nowhere delays nobody.
"""

import asyncio
import socket

from aiohappyeyeballs import AddrInfoType, start_connection

from proxy.errors import UpstreamUnreachable
from proxy.http1 import BadHttp, end_of_head, read_response
from proxy.upstream.route import HttpProxy, Route

LOOK_UP_SECONDS = 30.0
NEXT_ADDRESS_SECONDS = 0.25  # RFC 8305 § 5


class Dialer:
    """Dials one route. Raises OSError and UpstreamUnreachable; the caller bounds the time."""

    def __init__(self, route: Route, loop: asyncio.AbstractEventLoop) -> None:
        self._route = route
        self._loop = loop
        self._addresses: list[AddrInfoType] = []
        self._looked_up = float("-inf")
        self._look_up = asyncio.Lock()

    async def dial(self) -> socket.socket:
        addresses = await self._resolve()
        connected = await start_connection(
            addresses, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS, interleave=1, loop=self._loop
        )
        proxy = self._route.proxy
        if proxy is not None and self._route.tls:
            try:
                await self._tunnel(connected, proxy)
            except BaseException:
                connected.close()
                raise
        return connected

    async def _resolve(self) -> list[AddrInfoType]:
        """The addresses. Those known are still good when the name cannot be looked up just now."""
        async with self._look_up:  # whoever waits takes what the first one found
            if self._loop.time() - self._looked_up < LOOK_UP_SECONDS:
                return self._addresses
            stop = self._route.proxy or self._route
            try:
                found = await self._loop.getaddrinfo(stop.host, stop.port, type=socket.SOCK_STREAM)
            except OSError:
                if not self._addresses:
                    raise
            else:
                self._addresses = list(found)
            self._looked_up = self._loop.time()
            return self._addresses

    async def _tunnel(self, connected: socket.socket, proxy: HttpProxy) -> None:
        """Ask the proxy for a way through (RFC 9110 § 9.3.6)."""
        name = f"[{self._route.host}]" if ":" in self._route.host else self._route.host
        lines = [f"CONNECT {name}:{self._route.port} HTTP/1.1", f"Host: {name}:{self._route.port}"]
        if proxy.authorization is not None:
            lines.append(f"Proxy-Authorization: {proxy.authorization}")
        await self._loop.sock_sendall(connected, "\r\n".join([*lines, "", ""]).encode())
        try:
            status = await self._tunnel_status(connected)
        except BadHttp as error:
            raise UpstreamUnreachable(f"the proxy {proxy.shown} opens no tunnel: {error}", sent=False) from error
        if not 200 <= status < 300:
            reason = f"it answers {status}"
            raise UpstreamUnreachable(f"the proxy {proxy.shown} opens no tunnel: {reason}", sent=False)

    async def _tunnel_status(self, connected: socket.socket) -> int:
        answer = b""
        while (end := end_of_head(answer)) < 0:
            more = await self._loop.sock_recv(connected, 4096)
            if not more:
                raise BadHttp("it closed the connection")
            answer += more
        if len(answer) > end:
            raise BadHttp("it spoke before it was asked")
        return read_response(answer[:end], "CONNECT").status
