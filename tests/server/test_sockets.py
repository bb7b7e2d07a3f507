"""The listening socket, and what those that it accepts have from it."""

import socket

from proxy.config import Address
from proxy.server.sockets import bind


def test_what_is_accepted_sends_each_write_at_once() -> None:
    with bind(Address("127.0.0.1", 0), "--listen") as listener:
        listener.setblocking(True)
        with socket.create_connection(listener.getsockname()) as _, listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
