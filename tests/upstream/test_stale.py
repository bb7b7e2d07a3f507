"""A kept-alive connection that ends as a request is sent: again, only if not a byte of it can have been read."""

import asyncio
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from proxy.errors import UpstreamUnreachable
from proxy.upstream import Upstream
from proxy.upstream.kernel import Kernel, Mark, Taken
from tests.upstream.talking import OK, ask, pointing_to, read_one, send, serving

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is sent again")


def _reset(end: socket.socket) -> None:
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()


def _pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    ours.sendall(b"before")
    theirs.recv(100)
    theirs.sendall(b"answer")
    ours.recv(100)
    return ours, theirs


def _nothing(ours: socket.socket, theirs: socket.socket) -> None:
    theirs.close()


def _closed_before(ours: socket.socket, theirs: socket.socket) -> None:
    theirs.close()
    ours.send(b"request")


def _read_and_closed(ours: socket.socket, theirs: socket.socket) -> None:
    ours.send(b"request")
    theirs.recv(100)
    theirs.close()


def _unread_and_closed(ours: socket.socket, theirs: socket.socket) -> None:
    ours.send(b"request")
    theirs.close()


def _read_and_reset(ours: socket.socket, theirs: socket.socket) -> None:
    ours.send(b"request")
    theirs.recv(100)
    _reset(theirs)


def _reset_before(ours: socket.socket, theirs: socket.socket) -> None:
    _reset(theirs)
    with pytest.raises(OSError, match=r"reset|Broken"):
        ours.send(b"request")


def _half_closed(ours: socket.socket, theirs: socket.socket) -> None:
    theirs.shutdown(socket.SHUT_WR)
    ours.send(b"request")


@pytest.mark.parametrize(
    ("happens", "taken"),
    [
        (_nothing, Taken.NOTHING),
        (_closed_before, Taken.NOTHING),
        (_reset_before, Taken.NOTHING),
        (_read_and_closed, Taken.PERHAPS),
        (_unread_and_closed, Taken.PERHAPS),
        (_read_and_reset, Taken.PERHAPS),
        (_half_closed, Taken.PERHAPS),
    ],
)
def test_what_the_system_knows(happens: Callable[[socket.socket, socket.socket], None], taken: Taken) -> None:
    ours, theirs = _pair()
    kernel = Kernel(ours.fileno())
    mark = kernel.mark()
    happens(ours, theirs)
    ours.close()
    for _ in range(100):  # an acknowledgement may be delayed: until then it is undecided
        if (found := kernel.taken_since(mark)) is not Taken.UNDECIDED:
            break
        time.sleep(0.01)
    assert found is taken
    kernel.close()
    theirs.close()


def test_a_socket_that_is_no_tcp_tells_nothing() -> None:
    one, other = socket.socketpair()
    kernel = Kernel(one.fileno())
    assert kernel.mark() is None
    assert kernel.taken_since(None) is Taken.PERHAPS
    kernel.close()
    one.close()
    other.close()


@asynccontextmanager
async def one_then_closing() -> AsyncIterator[tuple[Upstream, socket.socket]]:
    """An upstream that has answered one request; its end of the connection, to be closed when the test likes."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        async with pointing_to(f"http://127.0.0.1:{listener.getsockname()[1]}/v1") as upstream:
            heard, _ = send(upstream)
            end, _ = await loop.sock_accept(listener)
            await loop.sock_recv(end, 65536)
            await loop.sock_sendall(end, OK)
            await heard.over.wait()
            with end:
                yield upstream, end
                # A second connection, if one comes, is served too.
                try:
                    async with asyncio.timeout(1):
                        again, _ = await loop.sock_accept(listener)
                except TimeoutError:
                    return
                with again:
                    await loop.sock_recv(again, 65536)
                    await loop.sock_sendall(again, OK)
                    await asyncio.sleep(0.1)


class ClosingKernel(Kernel):
    """The fault: the other end closes just after the system was asked, and just before the request leaves."""

    __slots__ = ("end",)
    end: socket.socket

    def mark(self) -> Mark | None:
        mark = super().mark()
        self.end.close()
        return mark


def closes_too_late(upstream: Upstream, end: socket.socket) -> None:
    [connection] = upstream._idle
    kernel = ClosingKernel(connection.transport.get_extra_info("socket").fileno())
    kernel.end = end
    connection._kernel.close()
    connection._kernel = kernel


@pytest.mark.parametrize("body", [b"{}", None], ids=["whole", "streamed"])
async def test_a_connection_that_was_closed_a_moment_ago_is_not_used(body: bytes | None) -> None:
    async with one_then_closing() as (upstream, end):
        # In one turn of the loop: the server's system closes, and a request comes before anybody can have noticed.
        end.close()
        heard, attempt = send(upstream, body=body)
        assert not attempt.began
    assert (heard.status, heard.body, heard.error) == (200, b"hi", None)
    assert not attempt.is_repeat


async def test_closed_before_the_request_came_it_is_sent_again() -> None:
    async with one_then_closing() as (upstream, end):
        closes_too_late(upstream, end)
        heard, attempt = send(upstream)
        assert attempt.began
    assert (heard.status, heard.body, heard.error) == (200, b"hi", None)
    assert attempt.is_repeat


async def test_a_streamed_body_is_not_sent_again_but_known_not_to_have_been_taken() -> None:
    async with one_then_closing() as (upstream, end):
        closes_too_late(upstream, end)
        heard, attempt = send(upstream, body=None)
        assert attempt.began
        async with asyncio.timeout(5):
            await heard.over.wait()
    assert isinstance(heard.error, UpstreamUnreachable)
    assert not heard.error.sent


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_read_and_not_answered_it_is_not_sent_again(how: str) -> None:
    seen = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_one(reader))
        writer.write(OK)
        seen.append(await read_one(reader))
        if how == "reset":
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async with serving(serve) as (_, upstream):
        await ask(upstream)
        heard = await ask(upstream)
        assert isinstance(heard.error, UpstreamUnreachable)
        assert heard.error.sent
        assert "without an answer" in str(heard.error)
    assert len(seen) == 2
