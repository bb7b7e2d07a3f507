"""Which header lines pass, in both directions. What is not named here passes untouched, in order, case and number."""

import re
from typing import Final

from proxy.config import Secret
from proxy.http1 import RequestHead, ResponseHead, field_line

# RFC 9110 § 7.6.1: they speak of one connection only.
_HOP_BY_HOP: Final = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection",
        b"te", b"trailer", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
_REQUEST_OWN: Final = _HOP_BY_HOP | {b"host", b"content-length", b"expect"}
_REQUEST_READ: Final = _REQUEST_OWN | {b"accept-encoding"}
_KEY_HEADERS: Final = frozenset({b"authorization", b"api-key", b"x-api-key"})
_ACCOUNT_HEADERS: Final = frozenset({b"openai-organization", b"openai-project"})
_REPLY_OWN: Final = _HOP_BY_HOP | {b"x-taximeter-entry", b"x-taximeter-cost-usd"}
# A taximeter key in whatever form and place it was presented: with a scheme or without, alone or beside another key.
_TAXIMETER_KEY: Final = re.compile(rb"(?:^|[\s,])tm-")
_KEY_AMONG_PROTOCOLS: Final = re.compile(rb"(?:^|[\s,.])tm-")

_IDENTITY: Final = b"Accept-Encoding: identity"
_UPGRADE: Final = (b"Connection: Upgrade", b"Upgrade: websocket")


def to_upstream(
    head: RequestHead, *, identity: bool, upstream_key: Secret | None, azure: bool, upgrade: bool = False
) -> list[bytes]:
    """The request's header lines for the upstream, but those that frame its body.

    `identity`: ask for a body that can be read. `upstream_key`: the caller came with a taximeter key, which must not
    leave; it is replaced, and with it everything that speaks for the caller's own account.
    """
    dropped = _REQUEST_READ if identity else _REQUEST_OWN
    if head.options:
        dropped = dropped | head.options
    if upstream_key is not None:
        dropped = dropped | _KEY_HEADERS | _ACCOUNT_HEADERS
    lines = [
        line
        for name, value, line in head.fields
        if name not in dropped and not (name in _KEY_HEADERS and _TAXIMETER_KEY.search(value))
    ]
    if identity:
        lines.append(_IDENTITY)
    if upstream_key is not None:
        key = upstream_key.reveal()
        lines.append(field_line("api-key", key) if azure else field_line("Authorization", f"Bearer {key}"))
    if upgrade:
        lines += _UPGRADE
    return lines


def to_client(head: ResponseHead, *, keep_length: bool, decoded: bool) -> list[bytes]:
    """The reply's header lines for the client. `decoded`: the body leaves here without its content-encoding."""
    dropped = _REPLY_OWN
    if not keep_length:
        dropped = dropped | {b"content-length"}
    if decoded:
        dropped = dropped | {b"content-encoding"}
    if head.options and not head.options <= dropped:
        # Its length stays, whatever `connection` says: it frames what goes out.
        dropped = dropped | (head.options - {b"content-length"})
    return [line for name, _, line in head.fields if name not in dropped]


def carries_taximeter_key(head: RequestHead) -> bool:
    """In a place where it cannot be taken out: browsers put keys among the protocols of a WebSocket."""
    return any(
        name == b"sec-websocket-protocol" and _KEY_AMONG_PROTOCOLS.search(value) for name, value, _ in head.fields
    )
