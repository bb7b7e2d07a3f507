"""Headers pass untouched, but for what speaks of one connection, of the length, or of the caller's own account."""

from proxy.config import Secret
from proxy.server.headers import to_client, to_upstream


def test_request_headers_keep_order_case_and_number() -> None:
    raw = [
        (b"X-A", b"1"),
        (b"x-b", b"2"),
        (b"X-A", b"3"),
        (b"OpenAI-Organization", b"org-1"),
        (b"Authorization", b"Bearer sk-1"),
    ]

    headers = to_upstream(raw, identity=False, upstream_key=None, azure=False)

    assert [(name.encode(), value.encode()) for name, value in headers.items()] == raw


def test_hop_by_hop_headers_and_what_connection_names_stay_here() -> None:
    raw = [
        (b"Connection", b"keep-alive, X-Secret-Hop"),
        (b"Keep-Alive", b"timeout=5"),
        (b"x-secret-hop", b"1"),
        (b"Host", b"proxy"),
        (b"Content-Length", b"12"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Expect", b"100-continue"),
        (b"X-Stay", b"1"),
    ]

    headers = to_upstream(raw, identity=False, upstream_key=None, azure=False)

    assert list(headers.items()) == [("X-Stay", "1")]


def test_a_metered_request_asks_for_a_body_that_can_be_read() -> None:
    headers = to_upstream([(b"accept-encoding", b"gzip, zstd")], identity=True, upstream_key=None, azure=False)

    assert list(headers.items()) == [("Accept-Encoding", "identity")]


def test_a_taximeter_key_never_leaves_and_takes_the_callers_account_with_it() -> None:
    raw = [
        (b"Authorization", b"Bearer tm-secret"),
        (b"api-key", b"tm-secret"),
        (b"OpenAI-Organization", b"org-1"),
        (b"OpenAI-Project", b"proj-1"),
        (b"OpenAI-Beta", b"x"),
    ]

    openai = to_upstream(raw, identity=False, upstream_key=Secret("sk-up"), azure=False)
    azure = to_upstream(raw, identity=False, upstream_key=Secret("az-up"), azure=True)

    assert dict(openai) == {"OpenAI-Beta": "x", "Authorization": "Bearer sk-up"}
    assert dict(azure) == {"OpenAI-Beta": "x", "api-key": "az-up"}


def test_reply_headers_lose_length_and_encoding_only_when_the_body_changes() -> None:
    raw = [
        (b"Content-Length", b"5"),
        (b"Content-Encoding", b"gzip"),
        (b"x-request-id", b"r"),
        (b"Transfer-Encoding", b"chunked"),
    ]

    whole = to_client(raw, keep_length=True, decoded=False)
    changed = to_client(raw, keep_length=False, decoded=True)

    assert list(whole.items()) == [("Content-Length", "5"), ("Content-Encoding", "gzip"), ("x-request-id", "r")]
    assert list(changed.items()) == [("x-request-id", "r")]
