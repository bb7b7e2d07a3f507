"""The plainest relay that aiohttp makes: its server, its client, chunks passed on as they come. Meters nothing.

python relay.py PORT UPSTREAM
"""

import asyncio
import sys

import aiohttp
import uvloop
from aiohttp import web

HOP_BY_HOP = {"host", "connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


class Relay:
    def __init__(self, upstream: str, session: aiohttp.ClientSession) -> None:
        self._upstream = upstream
        self._session = session

    async def handle(self, request: web.Request) -> web.StreamResponse:
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP]
        async with self._session.request(
            request.method, self._upstream + request.path_qs, headers=headers, data=await request.read()
        ) as reply:
            kept = [(name, value) for name, value in reply.headers.items() if name.lower() not in HOP_BY_HOP]
            if reply.content_length is not None:
                answer = web.Response(status=reply.status, body=await reply.read())
                for name, value in kept:
                    answer.headers[name] = value
                return answer
            stream = web.StreamResponse(status=reply.status)
            for name, value in kept:
                stream.headers[name] = value
            await stream.prepare(request)
            async for chunk in reply.content.iter_any():
                await stream.write(chunk)
            await stream.write_eof()
            return stream


async def serve(port: int, upstream: str) -> None:
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=600)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", Relay(upstream, session).handle)
        runner = web.AppRunner(application, access_log=None, keepalive_timeout=600)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2]))
