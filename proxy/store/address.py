"""Where the store is: what a URL says, and for Sentinel and Cluster, which server it is now.

All keys have one hash tag, so in a cluster there is one server too: the master of that one slot.
"""

import math
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, parse_url
from redis.exceptions import RedisError

from proxy.config.records import without_password
from proxy.errors import StoreAway, StoreRefused

_PORT, _SENTINEL_PORT = 6379, 26379
_MASTER_NAME = "mymaster"  # the name in Sentinel's own example configuration
_OURS = frozenset(  # options of the URL that redis-py would take, and that the ordered connection decides itself
    (
        *("decode_responses", "health_check_interval", "max_connections", "protocol", "retry", "retry_on_error"),
        *("retry_on_timeout", "single_connection_client", "socket_connect_timeout", "socket_timeout", "timeout"),
    )
)

HostAndPort = tuple[str, int]


class Address:
    """A store's URL. Never shows its password."""

    def __init__(self, url: str) -> None:
        self.shown = without_password(url)
        scheme, _, rest = url.partition("://")
        base, _, self._kind = scheme.partition("+")
        place, _, query = rest.partition("?")
        options = {name: value for name, value in parse_qsl(query) if name not in _OURS}
        self._sentinel_login: dict[str, Any] = {
            "username": options.pop("sentinel_username", None),
            "password": options.pop("sentinel_password", None),
        }
        self._master_name = _MASTER_NAME
        self._seeds: list[HostAndPort] = []
        if base in ("redis", "rediss"):
            netloc, _, path = place.partition("/")
            login, at, hosts = netloc.rpartition("@")
            self._seeds = [self._host_and_port(host) for host in hosts.split(",")]
            if self._kind == "sentinel":
                name, _, path = path.partition("/")
                self._master_name = name or _MASTER_NAME
            place = f"{login}{at}store/{path}"
        self._options = self._parsed(
            f"{base}://{place}" + (f"?{urlencode(options, quote_via=quote)}" if options else "")
        )
        if self._kind == "cluster" and self._options.get("db"):
            raise StoreRefused(f"store {self.shown}: a cluster has only database 0")
        self._class: type[AbstractConnection] = self._options.pop("connection_class", Connection)
        self._turn = 0
        self._moved_to: HostAndPort | None = None

    @property
    def is_cluster(self) -> bool:
        return self._kind == "cluster"

    @property
    def has_replicas(self) -> bool:
        """Where Sentinel watches over a store, there is something to fail over to."""
        return self._kind == "sentinel"

    def moved(self, host: str, port: int) -> None:
        """The cluster says that the keys live there. An empty host means: where you asked."""
        asked, _ = self._moved_to or self._seeds[self._turn % len(self._seeds)]
        self._moved_to = (host or asked, port)

    def failed(self) -> None:
        """The server that was tried last cannot be used: ask the next seed."""
        self._moved_to = None
        self._turn += 1

    async def connection(self, seconds: float) -> AbstractConnection:
        """A connection to the server that the store is now, not yet open. Sentinel is asked first."""
        target: dict[str, Any] = {}
        if self._seeds:
            seed = self._seeds[self._turn % len(self._seeds)]
            host, port = await self._master(seed, seconds) if self._kind == "sentinel" else self._moved_to or seed
            target = {"host": host, "port": port}
        try:
            return self._class(**{**self._options, **target, **_settings(seconds)})
        except TypeError as error:
            raise StoreRefused(f"store {self.shown}: the URL has an option that is unknown: {error}") from None
        except (RedisError, ValueError) as error:
            raise StoreRefused(f"store {self.shown}: {error}") from None

    async def _master(self, sentinel: HostAndPort, seconds: float) -> HostAndPort:
        host, port = sentinel
        tls = {name: value for name, value in self._options.items() if name.startswith("ssl_")}
        connection = (SSLConnection if issubclass(self._class, SSLConnection) else Connection)(
            host=host, port=port, **self._sentinel_login, **tls, **_settings(seconds)
        )
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            await connection.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._master_name)
            found = await connection.read_response(timeout=math.inf)
        finally:
            await connection.disconnect(nowait=True)
        if not found:
            raise StoreAway(f"store {self.shown}: the sentinel at {host}:{port} knows no master {self._master_name!r}")
        return found[0].decode(), int(found[1])

    def _host_and_port(self, text: str) -> HostAndPort:
        try:
            parts = urlsplit(f"//{text}")
            port = parts.port or (_SENTINEL_PORT if self._kind == "sentinel" else _PORT)
        except ValueError:
            raise StoreRefused(f"store {self.shown}: {text!r} is no host and port") from None
        return parts.hostname or "localhost", port

    def _parsed(self, url: str) -> dict[str, Any]:
        try:
            return dict(parse_url(url))
        except ValueError:
            schemes = "redis, rediss, unix, redis+sentinel, rediss+sentinel, redis+cluster or rediss+cluster"
            raise StoreRefused(f"store {self.shown}: the URL must begin with {schemes} and be complete") from None


def _settings(seconds: float) -> dict[str, Any]:
    """Nothing behind our back: no retries, no timeouts but our own, no greeting with the library's name."""
    return {"protocol": 2, "socket_timeout": None, "socket_connect_timeout": seconds, "driver_info": None}
