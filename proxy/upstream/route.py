"""Where the upstream is, and which proxy stands on the way.

HTTP_PROXY, HTTPS_PROXY and NO_PROXY are read as Go and curl read them: in capitals or not; NO_PROXY has names (and all
below them), addresses, networks, or `*`; this machine itself is never reached through a proxy.
"""

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from proxy.errors import UsageError

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class HttpProxy:
    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)
    """The value of `proxy-authorization`."""

    @property
    def shown(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Route:
    """`host` has no brackets; `authority` is what stands in the header host; `path` has no slash at its end."""

    host: str
    port: int
    tls: bool
    authority: str
    path: str
    proxy: HttpProxy | None

    @property
    def shown(self) -> str:
        return f"{self.host}:{self.port}"


def route_to(base: str, environ: Mapping[str, str]) -> Route:
    """The way to a base URL, which was checked before. Raises UsageError for a proxy that cannot be used."""
    url = urlsplit(base)
    host = url.hostname or ""
    scheme = url.scheme.lower()
    port = url.port or _PORTS[scheme]
    name = f"[{host}]" if ":" in host else host
    authority = name if port == _PORTS[scheme] else f"{name}:{port}"
    host = unquote(host)  # the % of an IPv6 zone is written %25
    return Route(
        host, port, scheme == "https", authority, url.path.rstrip("/"), _proxy_for(scheme, host, port, environ)
    )


def _proxy_for(scheme: str, host: str, port: int, environ: Mapping[str, str]) -> HttpProxy | None:
    variable = f"{scheme}_proxy"
    given = environ.get(variable) or environ.get(variable.upper()) or ""
    if not given or _goes_direct(host, port, environ.get("no_proxy") or environ.get("NO_PROXY") or ""):
        return None
    try:
        url = urlsplit(given if "://" in given else f"http://{given}")
        host_of_proxy, port_of_proxy = url.hostname, url.port
    except ValueError:
        url, host_of_proxy, port_of_proxy = urlsplit(""), None, None
    if url.scheme.lower() != "http" or not host_of_proxy:
        # Not shown: it may hold a password.
        raise UsageError(f"{variable.upper()} must be the URL of an HTTP proxy, such as http://proxy:3128")
    return HttpProxy(host_of_proxy, port_of_proxy or _PORTS["http"], _authorization(url))


def _authorization(url: SplitResult) -> str | None:
    if url.username is None:
        return None
    pair = f"{unquote(url.username)}:{unquote(url.password or '')}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _goes_direct(host: str, port: int, no_proxy: str) -> bool:
    address = _address(host)
    if host == "localhost" or host.endswith(".localhost") or (address is not None and address.is_loopback):
        return True
    return any(_matches(entry.strip().lower(), host.lower(), port, address) for entry in no_proxy.split(","))


def _matches(entry: str, host: str, port: int, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None) -> bool:
    if not entry:
        return False
    if entry == "*":
        return True
    if address is not None:
        try:
            return address in ipaddress.ip_network(entry.strip("[]"), strict=False)
        except ValueError:
            pass
    name, colon, digits = entry.rpartition(":")
    if colon and digits.isdigit():
        if int(digits) != port:
            return False
        entry = name.strip("[]")
    entry = entry.removeprefix("*").removeprefix(".")
    return host == entry or host.endswith(f".{entry}")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
