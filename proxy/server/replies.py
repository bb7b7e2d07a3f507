"""taximeter's own answers, in the API's error format, so that SDKs raise their own exceptions.

A refusal that must not be retried says so in `x-should-retry`: SDKs retry a bare 429.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus

import msgspec

from proxy.denials import Denied
from proxy.errors import JournalFailed, UpstreamError, UpstreamTooSlow
from proxy.http1 import field_line


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """An answer that ends the request before it is forwarded."""

    def __init__(
        self, status: int, message: str, kind: str, code: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.code = code
        self.headers = headers or {}

    def body(self) -> bytes:
        return msgspec.json.encode(
            {"error": {"message": self.message, "type": self.kind, "param": None, "code": self.code}}
        )

    def lines(self, entry_id: str) -> list[bytes]:
        """Its header lines, but for the body's length."""
        named = (*self.headers.items(), ("x-taximeter-entry", entry_id))
        return [_JSON, *(field_line(name, value) for name, value in named)]

    def last_reply(self, entry_id: str, *, with_body: bool) -> bytes:
        """The whole reply on a connection that closes with it."""
        body = self.body()
        status = b"HTTP/1.1 %d %b" % (self.status, HTTPStatus(self.status).phrase.encode())
        length = b"Content-Length: %d" % len(body)
        head = b"\r\n".join([status, *self.lines(entry_id), length, b"Connection: close", b"", b""])
        return head + body if with_body else head


_JSON = field_line("Content-Type", "application/json; charset=utf-8")
_NO_RETRY = {"x-should-retry": "false"}
_RETRY_SOON = {"x-should-retry": "true", "retry-after": "1"}


def denied(denial: Denied) -> Refused:
    """Admission's no, as the API says it."""
    match denial.reason:
        case "budget_exceeded":
            return Refused(429, denial.message, "insufficient_quota", denial.reason, _NO_RETRY)
        case "budget_held":
            return Refused(429, denial.message, "insufficient_quota", denial.reason, _RETRY_SOON)
        case "model_not_priced":
            return Refused(403, denial.message, "invalid_request_error", denial.reason, _NO_RETRY)
        case "store_unavailable":
            return store_unavailable(denial.message)
        case "too_many_budgets":
            return Refused(503, denial.message, "server_error", denial.reason, _NO_RETRY)


def invalid_api_key(message: str) -> Refused:
    return Refused(401, message, "invalid_request_error", "invalid_api_key")


def path_not_open() -> Refused:
    return Refused(
        403,
        "this path is not open to taximeter keys: they serve inference only",
        "invalid_request_error",
        "path_not_open",
        _NO_RETRY,
    )


def model_not_allowed(asked: str | None, allowed: Sequence[str]) -> Refused:
    what = f"the model {asked!r}" if asked else "a request whose model cannot be seen"
    return Refused(
        403,
        f"this taximeter key is not for {what}: it is limited to {', '.join(allowed)}",
        "invalid_request_error",
        "model_not_allowed",
        _NO_RETRY,
    )


def store_unavailable(message: str) -> Refused:
    return Refused(503, message, "server_error", "store_unavailable", {"x-should-retry": "true"})


def too_many_open_requests(owner: str, most: int) -> Refused:
    return Refused(
        429,
        f"{owner} has {most} requests open in this worker (max_open_requests_per_owner): wait for one of them to end",
        "rate_limit_error",
        "too_many_open_requests",
        _RETRY_SOON,
    )


def upstream_key_missing(variable: str) -> Refused:
    return Refused(
        503,
        f"no upstream key is configured: set {variable} where taximeter runs",
        "server_error",
        "upstream_key_missing",
        _NO_RETRY,
    )


def journal_failed(error: JournalFailed) -> Refused:
    return Refused(503, str(error), "server_error", "journal_unavailable", {"x-should-retry": "true"})


def upstream_failed(error: UpstreamError) -> Refused:
    if isinstance(error, UpstreamTooSlow):
        return Refused(504, str(error), "server_error", "upstream_too_slow")
    return Refused(502, str(error), "server_error", "upstream_unreachable")


def body_too_large(limit: int) -> Refused:
    return Refused(
        413,
        f"the request's body is larger than {limit} bytes (max_body_bytes)",
        "invalid_request_error",
        "body_too_large",
        _NO_RETRY,
    )


def not_found(path: str) -> Refused:
    return Refused(
        404,
        f"taximeter forwards paths under /v1/ and /openai/, and this is {path}: end the client's base_url with /v1",
        "invalid_request_error",
        "not_found",
        _NO_RETRY,
    )


def bad_body(message: str) -> Refused:
    return Refused(400, message, "invalid_request_error", "bad_request_body", _NO_RETRY)


def bad_path() -> Refused:
    return Refused(
        400,
        "the path has '.' or '..' segments: write it without them",
        "invalid_request_error",
        "bad_path",
        _NO_RETRY,
    )


def bad_http(reason: str) -> Refused:
    """Not HTTP/1.1 as it is understood here."""
    return Refused(400, f"malformed HTTP: {reason}", "invalid_request_error", "bad_http", _NO_RETRY)


def too_slow() -> Refused:
    return Refused(408, "the request did not come in time", "invalid_request_error", "request_too_slow")


def internal_fault() -> Refused:
    return Refused(500, "internal fault: taximeter's log says more", "server_error", "internal_fault")
