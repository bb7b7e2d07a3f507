"""A TCP relay in a process of its own that is told, on standard input, to do harm to the connections it relays.

`python -m tests.chaos.cutter PORT:TARGET …`: each port of 127.0.0.1 leads to another one. Orders, a line each, and
the answer on standard output is how many connections they met:
`cut PORT fin|reset` ends all of them; `lose PORT` throws the next answer of each away and then ends it; `shut PORT`
resets them and accepts no more until `open PORT`, as a host without a server does.
"""

import asyncio
import contextlib
import socket
import struct
import sys
from typing import cast

import uvloop

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 seconds: close() sends RST


class End(asyncio.Protocol):
    """One end of a relayed connection. `other` is where its bytes go."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: End | None = None
        self.early: list[bytes] = []  # what came before there was a place for it
        self.loses = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self.loses:
            self.reset()
        elif self.other is None:
            self.early.append(data)
        elif self.other.transport is not None:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()

    def reset(self) -> None:
        for end in (self, self.other):
            if end is not None and end.transport is not None:
                sock = end.transport.get_extra_info("socket")
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                end.transport.abort()


class Route:
    def __init__(self, port: int, target: int) -> None:
        self._port = port
        self._target = target
        self._listener: asyncio.Server | None = None
        self._ends: set[Near] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: Near(self), "127.0.0.1", self._port, backlog=1024)

    def shut(self) -> int:
        if self._listener is not None:
            self._listener.close()
        return self.cut("reset")

    def opened(self, near: "Near") -> None:
        self._ends.add(near)
        task = asyncio.get_running_loop().create_task(self._connect(near))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def closed(self, near: "Near") -> None:
        self._ends.discard(near)

    async def _connect(self, near: "Near") -> None:
        assert near.transport is not None
        loop = asyncio.get_running_loop()
        try:
            _, far = await loop.create_connection(End, "127.0.0.1", self._target)
        except OSError:
            near.transport.abort()
            return
        near.other, far.other = far, near
        assert far.transport is not None
        far.transport.writelines(near.early)
        if near.transport.is_closing():
            far.transport.close()

    def cut(self, how: str) -> int:
        for near in (met := list(self._ends)):
            if how == "reset":
                near.reset()
            elif near.transport is not None:
                near.transport.close()
        return len(met)

    def lose(self) -> int:
        met = [near.other for near in self._ends if near.other is not None]
        for far in met:
            far.loses = True
        return len(met)


class Near(End):
    def __init__(self, route: Route) -> None:
        super().__init__()
        self._route = route

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._route.opened(self)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._route.closed(self)


async def main() -> None:
    loop = asyncio.get_running_loop()
    routes: dict[str, Route] = {}
    for argument in sys.argv[1:]:
        port, _, target = argument.partition(":")
        routes[port] = Route(int(port), int(target))
        await routes[port].open()
    print("ready", flush=True)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async for line in reader:
        order, port, *how = line.decode().split()
        route = routes[port]
        met = 0
        if order == "cut":
            met = route.cut(how[0])
        elif order == "lose":
            met = route.lose()
        elif order == "shut":
            met = route.shut()
        else:
            await route.open()
        print(met, flush=True)


if __name__ == "__main__":
    uvloop.run(main())
