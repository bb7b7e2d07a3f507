"""Headers pass untouched, but for what speaks of one connection, of the length, or of the caller's own account."""

import pytest

from proxy.config import Secret
from proxy.http1 import InvalidField, RequestHead, ResponseHead, read_request, read_response
from proxy.server.headers import carries_taximeter_key, to_client, to_upstream


def request(*lines: bytes, method: bytes = b"POST") -> RequestHead:
    return read_request(b"\r\n".join([method + b" /v1/x HTTP/1.1", b"Host: proxy", *lines, b"", b""]))


def reply(*lines: bytes) -> ResponseHead:
    return read_response(b"\r\n".join([b"HTTP/1.1 200 OK", *lines, b"", b""]), "POST")


def test_request_headers_keep_order_case_and_number() -> None:
    lines = [b"X-A: 1", b"x-b:2", b"X-A:   3", b"OpenAI-Organization: org-1", b"Authorization: Bearer sk-1"]

    assert to_upstream(request(*lines), identity=False, upstream_key=None, azure=False) == lines


def test_hop_by_hop_headers_and_what_connection_names_stay_here() -> None:
    head = request(
        b"Connection: keep-alive, X-Secret-Hop",
        b"Keep-Alive: timeout=5",
        b"x-secret-hop: 1",
        b"Proxy-Authorization: Basic eA==",
        b"TE: trailers",
        b"Transfer-Encoding: chunked",
        b"Expect: 100-continue",
        b"X-Stay: 1",
    )

    assert to_upstream(head, identity=False, upstream_key=None, azure=False) == [b"X-Stay: 1"]


def test_connection_may_name_several_headers_in_several_lines() -> None:
    head = request(b"Connection: X-One", b"connection: close ,x-two", b"X-One: 1", b"X-Two: 2", b"X-Three: 3")

    assert to_upstream(head, identity=False, upstream_key=None, azure=False) == [b"X-Three: 3"]
    assert not head.persistent


def test_a_metered_request_asks_for_a_body_that_can_be_read() -> None:
    head = request(b"accept-encoding: gzip, zstd")

    lines = to_upstream(head, identity=True, upstream_key=None, azure=False)

    assert lines == [b"Accept-Encoding: identity"]


def test_a_taximeter_key_never_leaves_and_takes_the_callers_account_with_it() -> None:
    head = request(
        b"Authorization: Bearer tm-secret",
        b"api-key: tm-secret",
        b"OpenAI-Organization: org-1",
        b"OpenAI-Project: proj-1",
        b"OpenAI-Beta: x",
    )

    openai = to_upstream(head, identity=False, upstream_key=Secret("sk-up"), azure=False)
    azure = to_upstream(head, identity=False, upstream_key=Secret("az-up"), azure=True)

    assert openai == [b"OpenAI-Beta: x", b"Authorization: Bearer sk-up"]
    assert azure == [b"OpenAI-Beta: x", b"api-key: az-up"]


def test_a_taximeter_key_beside_a_callers_own_does_not_leave_either() -> None:
    head = request(b"Authorization: Bearer sk-mine", b"x-api-key: tm-secret")

    assert to_upstream(head, identity=False, upstream_key=None, azure=False) == [b"Authorization: Bearer sk-mine"]


def test_a_key_that_would_end_its_line_is_not_written() -> None:
    with pytest.raises(InvalidField) as error:
        to_upstream(request(), identity=False, upstream_key=Secret("sk-up\r\nX-Evil: 1"), azure=False)
    assert "sk-up" not in str(error.value)


def test_an_upgrade_is_asked_for_in_our_own_name() -> None:
    lines_in = (b"Connection: Upgrade, x-hop", b"Upgrade: websocket", b"x-hop: 1", b"Sec-WebSocket-Version: 13")
    head = request(*lines_in, method=b"GET")

    lines = to_upstream(head, identity=False, upstream_key=None, azure=False, upgrade=True)

    assert lines == [b"Sec-WebSocket-Version: 13", b"Connection: Upgrade", b"Upgrade: websocket"]


def test_a_taximeter_key_among_the_protocols_of_a_websocket_is_seen() -> None:
    protocols = b"Sec-WebSocket-Protocol: realtime, openai-insecure-api-key."
    assert carries_taximeter_key(request(protocols + b"tm-secret"))
    assert not carries_taximeter_key(request(protocols + b"sk-mine"))


def test_reply_headers_lose_length_and_encoding_only_when_the_body_changes() -> None:
    head = reply(b"Content-Length: 5", b"Content-Encoding: gzip", b"x-request-id: r")

    whole = to_client(head, keep_length=True, decoded=False)
    changed = to_client(head, keep_length=False, decoded=True)

    assert whole == [b"Content-Length: 5", b"Content-Encoding: gzip", b"x-request-id: r"]
    assert changed == [b"x-request-id: r"]


def test_what_taximeter_says_nobody_else_says() -> None:
    head = reply(b"x-taximeter-entry: forged", b"X-Taximeter-Cost-USD: 0", b"x-stay: 1")

    assert to_client(head, keep_length=True, decoded=False) == [b"x-stay: 1"]


def test_a_reply_cannot_take_its_own_length_away() -> None:
    head = reply(b"Connection: content-length, x-hop", b"Content-Length: 5", b"x-hop: 1")

    assert to_client(head, keep_length=True, decoded=False) == [b"Content-Length: 5"]
