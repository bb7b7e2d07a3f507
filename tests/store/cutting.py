"""A TCP proxy that a test can order to lose replies, or to cut its connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class CuttingProxy:
    """Stands before a server's unix socket. `lose_next`: so many replies to script calls are cut off, not passed on."""

    def __init__(self, path: str) -> None:
        self.port = 0
        self.lose_next = 0
        self.lost = 0
        self._path = path
        self._ends: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, onward = await asyncio.open_unix_connection(self._path)
        ends = {writer, onward}
        self._ends |= ends
        is_script = False

        async def requests() -> None:
            nonlocal is_script
            while data := await reader.read(1 << 20):
                is_script = is_script or b"EVAL" in data
                onward.write(data)
            onward.close()

        async def replies() -> None:
            nonlocal is_script
            while data := await there.read(1 << 20):
                if is_script and self.lose_next and not data.startswith(b"-NOSCRIPT"):
                    self.lose_next -= 1
                    self.lost += 1
                    break
                is_script = False
                writer.write(data)
            for end in ends:
                end.close()

        with suppress(ConnectionError):
            await asyncio.gather(requests(), replies())
        for end in ends:
            end.close()
            with suppress(ConnectionError):
                await end.wait_closed()
        self._ends -= ends

    def cut(self) -> None:
        for end in self._ends:
            end.close()


@asynccontextmanager
async def cutting_proxy(path: str) -> AsyncIterator[CuttingProxy]:
    proxy = CuttingProxy(path)
    listener = await asyncio.start_server(proxy.handle, "127.0.0.1", 0)
    proxy.port = listener.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        listener.close()
        proxy.cut()
        await asyncio.sleep(0.05)
