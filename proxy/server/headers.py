"""Which headers pass, in both directions. What is not named here passes untouched, in order, case and number."""

import re
from collections.abc import Iterable

from multidict import CIMultiDict

from proxy.config import Secret

# RFC 9110 § 7.6.1: they speak of one connection only.
_HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
        "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
_REQUEST_OWN = frozenset({"host", "content-length", "expect"})
_KEY_HEADERS = frozenset({"authorization", "api-key", "x-api-key"})
# A taximeter key in whatever form and place it was presented: with a scheme or without, alone or beside another key.
_TAXIMETER_KEY = re.compile(rb"(?:^|[\s,])tm-")
_ACCOUNT_HEADERS = frozenset({"openai-organization", "openai-project"})

Raw = Iterable[tuple[bytes, bytes]]


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _dropped(raw: Raw) -> frozenset[str]:
    """Hop-by-hop headers, and all that `connection` names."""
    named = [value for name, value in raw if name.lower() == b"connection"]
    if not named:
        return _HOP_BY_HOP
    tokens = {token.strip().lower() for value in named for token in _text(value).split(",")}
    return _HOP_BY_HOP | tokens


def to_upstream(raw: Raw, *, identity: bool, upstream_key: Secret | None, azure: bool) -> CIMultiDict[str]:
    """The request's headers for the upstream.

    `identity`: ask for a body that can be read. `upstream_key`: the caller came with a taximeter key, which must not
    leave; it is replaced, and with it everything that speaks for the caller's own account.
    """
    raw = list(raw)
    dropped = _dropped(raw) | _REQUEST_OWN
    if identity:
        dropped |= {"accept-encoding"}
    if upstream_key is not None:
        dropped |= _KEY_HEADERS | _ACCOUNT_HEADERS
    headers = CIMultiDict[str]()
    for name, value in raw:
        text = _text(name)
        lowered = text.lower()
        if lowered not in dropped and not (lowered in _KEY_HEADERS and _TAXIMETER_KEY.search(value)):
            headers.add(text, _text(value))
    if identity:
        headers["Accept-Encoding"] = "identity"
    if upstream_key is not None:
        if azure:
            headers["api-key"] = upstream_key.reveal()
        else:
            headers["Authorization"] = f"Bearer {upstream_key.reveal()}"
    return headers


def to_client(raw: Raw, *, keep_length: bool, decoded: bool) -> CIMultiDict[str]:
    """The reply's headers for the client. `decoded`: the body leaves here without its content-encoding."""
    raw = list(raw)
    dropped = _dropped(raw)
    if not keep_length:
        dropped |= {"content-length"}
    if decoded:
        dropped |= {"content-encoding"}
    headers = CIMultiDict[str]()
    for name, value in raw:
        text = _text(name)
        if text.lower() not in dropped:
            headers.add(text, _text(value))
    return headers
