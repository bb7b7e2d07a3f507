"""What goes wrong below a connection comes out of it as one of our own errors."""

from typing import cast

import pytest
from redis.asyncio.connection import AbstractConnection

from proxy.errors import StoreAway
from proxy.store.address import Address
from proxy.store.wire import Wire


class ClosedConnection:
    """Lost a moment ago, on uvloop: its transports say so with a RuntimeError."""

    def pack_command(self, *arguments: object) -> list[bytes]:
        return [b"PING"]

    async def send_packed_command(self, command: list[bytes], *, check_health: bool) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")


async def test_a_transport_that_is_closed_is_a_store_that_is_away() -> None:
    wire = Wire(Address("redis://127.0.0.1:1"), cast("AbstractConnection", ClosedConnection()))
    with pytest.raises(StoreAway, match="the connection was closed"):
        await wire.call("PING")
