"""One connection to a store: the handshake, commands and answers. Every foreign error is mapped here.

StoreAway: not now (no answer, loading, read only, out of memory, …). StoreRefused: it will go on refusing.
"""

import asyncio
import logging
import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AuthenticationError, AuthorizationError, InvalidResponse, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from proxy.errors import StoreAway, StoreError, StoreRefused
from proxy.store import keys
from proxy.store.address import Address

OLDEST_MAJOR = 7  # scripts with a shebang are refused as a whole when the server is full or a replica, from 7.0 on
CLOSE_SECONDS = 1.0
MOVES = 3  # so often is a cluster's word followed in one attempt to connect
AWAY = frozenset(
    (
        *("ASK", "BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "OOM", "READONLY"),
        *("SUPERSEDED", "TRYAGAIN", "UNBLOCKED"),
    )
)
REFUSED = frozenset(("DENIED", "NOAUTH", "NOPERM", "WRONGPASS"))

log = logging.getLogger(__name__)


class _WithCode(StoreRefused):
    """`code` is the first word of the server's error."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class NotAllowed(_WithCode):
    """The login is wrong, or may not do this."""


class Moved(StoreAway):
    """The cluster keeps our keys on another server; the address knows it now."""


class CommandFailed(_WithCode):
    """The store answered a command with an error that repeating will not mend."""


class Wire:
    """An open connection. One command at a time; after StoreAway it is of no use any more."""

    def __init__(self, address: Address, connection: AbstractConnection) -> None:
        self.run_id: str | None = None
        """Names one life of one server. None: it may not be asked."""
        self.shown = f"store {address.shown}"
        self._address = address
        self._connection = connection

    @classmethod
    async def open(cls, address: Address, seconds: float) -> "Wire":
        """Connect, log in and look at the server. Raises StoreAway, or StoreRefused if it cannot serve as a store."""
        try:
            async with asyncio.timeout(seconds):
                for _ in range(MOVES):
                    with suppress(Moved):
                        return await cls._open(address, seconds)
                return await cls._open(address, seconds)
        except TimeoutError:
            address.failed()
            raise StoreAway(f"store {address.shown}: no answer within {seconds:g} s") from None

    @classmethod
    async def _open(cls, address: Address, seconds: float) -> "Wire":
        wire: Wire | None = None
        try:
            connection = await address.connection(seconds)
            wire = cls(address, connection)
            await connection.connect()  # type: ignore[no-untyped-call]
            await wire._check_server()
        except BaseException as error:
            if wire is not None:
                await wire.close()
            if isinstance(error, Moved):
                raise
            address.failed()
            if isinstance(error, RedisError | OSError | EOFError):
                raise failure(error, address) from None
            raise
        return wire

    async def look(self) -> None:
        """Between commands: raises StoreAway when the other side has closed the connection. Sends nothing."""
        try:
            is_lost = await self._connection.can_read()  # nothing is to be read now but the end
        except (RedisError, OSError) as error:
            raise failure(error, self._address) from None
        if is_lost:
            raise StoreAway(f"store {self._address.shown}: the connection was closed")

    def hand_over(self, protocol: asyncio.Protocol) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """From now on this protocol gets what arrives; see Channel. Returns the transport, and the protocol before.

        Between calls only, and it is to be given back before the next one. Raises StoreAway when it is lost already.
        """
        # redis-py keeps both to itself, but has no way to read an answer without a stream and a task.
        reader, writer = self._connection._reader, self._connection._writer  # noqa: SLF001
        if reader is None or writer is None or reader.at_eof() or writer.transport.is_closing():
            raise StoreAway(f"{self.shown}: the connection was closed")
        transport = cast("asyncio.Transport", writer.transport)
        before = cast("asyncio.Protocol", transport.get_protocol())
        transport.set_protocol(protocol)
        return transport, before

    def failure(self, error: Exception) -> StoreError:
        """What a foreign error of this connection means."""
        return failure(error, self._address)

    async def close(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._connection.disconnect()
        except (RedisError, OSError, TimeoutError):
            pass  # it is gone either way

    def pack(self, *arguments: bytes | str | int) -> list[bytes]:
        """A command as bytes, for `send`."""
        return self._connection.pack_command(*arguments)

    async def call(self, *arguments: bytes | str | int) -> Any:
        """One command. The answer is made of bytes, integers, lists and None."""
        return await self.send(self.pack(*arguments))

    async def send(self, command: list[bytes]) -> Any:
        """The same for a command that is packed."""
        try:
            await self._connection.send_packed_command(command, check_health=False)
            return await self._connection.read_response(disable_decoding=True, timeout=math.inf)
        except (RedisError, OSError) as error:
            raise failure(error, self._address) from None
        except RuntimeError as error:
            # uvloop's word for a connection that was lost since the last call; asyncio's own loop has none.
            raise StoreAway(f"store {self._address.shown}: the connection was closed") from error

    async def _check_server(self) -> None:
        if self._address.is_cluster:
            await self.call("EXISTS", keys.LEDGER)  # raises Moved where our keys live on another server
        try:
            answer = await self.call("INFO")
        except NotAllowed as refused:
            if refused.code != "NOPERM":
                raise
            log.warning(
                "store %s: INFO is not allowed, so version and maxmemory-policy stay unchecked", self._address.shown
            )
            return
        info = info_of(answer)
        self.run_id = info.get("run_id")
        problem = unfit(info)
        if problem:
            raise StoreRefused(f"store {self._address.shown}: {problem}")


def info_of(answer: bytes) -> dict[str, str]:
    """INFO's lines by name."""
    lines = (line.partition(":") for line in answer.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def unfit(info: Mapping[str, str]) -> str | None:
    """Why a server that says this of itself cannot be the store."""
    version = info.get("redis_version", "")
    major = version.partition(".")[0]
    if major.isdecimal() and int(major) < OLDEST_MAJOR:
        return f"the server is Redis {version}; it must be Redis {OLDEST_MAJOR} or newer, or Valkey"
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        return (
            f"maxmemory-policy is {policy}: the server would throw budgets away when it is full; "
            "set it to noeviction (CONFIG SET maxmemory-policy noeviction)"
        )
    return None


def failure(error: Exception, address: Address) -> StoreError:
    """What a foreign error means. The text names the store without its password."""
    while isinstance(error, RedisConnectionError) and error.args and isinstance(error.args[0], RedisError):
        error = error.args[0]  # redis-py wraps what went wrong while it logged in
    text = " ".join(str(error).split())
    code = getattr(error, "status_code", None) or text.partition(" ")[0]
    where = f"store {address.shown}"
    if isinstance(error, InvalidResponse):
        return StoreRefused(f"{where}: this is no Redis server")
    if isinstance(error, AuthenticationError | AuthorizationError) or code in REFUSED:
        return NotAllowed(f"{where} refuses us: {text}", code)
    if isinstance(error, ResponseError):
        if code == "MOVED":
            return _moved(text, address)
        if code in AWAY:
            return StoreAway(f"{where}: {text if text.startswith(code) else f'{code} {text}'}")
        return CommandFailed(f"{where}: {text}", code)
    if isinstance(error, RedisConnectionError | OSError | EOFError | RedisError):
        return StoreAway(f"{where}: {text or type(error).__name__}")
    raise error


def _moved(text: str, address: Address) -> StoreError:
    """`MOVED slot host:port`: in a cluster, the place to ask."""
    if not address.is_cluster:
        return StoreRefused(f"store {address.shown} is part of a cluster: write redis+cluster:// in redis_url")
    host, _, port = text.rpartition(" ")[2].rpartition(":")
    address.moved(host, int(port))
    return Moved(f"store {address.shown}: the keys live at {host}:{port}")
