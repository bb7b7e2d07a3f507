"""What is not metered passes through: the body flows both ways, and so does what follows an upgrade.

It is counted, and looked at only where it may end what was accepted before.
"""

from collections.abc import Callable
from typing import Final

from proxy.errors import UpstreamError
from proxy.http1 import ResponseHead, chunk, last_chunk
from proxy.metering import Ending, Endpoint, Meter, Reading, RequestFacts
from proxy.metrics import CLIENT_GONE, Labels, Metrics
from proxy.server import replies
from proxy.server.headers import to_client
from proxy.server.request import Request
from proxy.upstream import Attempt, Upstream

_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})


class Passage:
    """One request that passes. `over` is called once, at its end; `collect` with what may end an earlier request."""

    __slots__ = (
        "_answer", "_attempt", "_collect", "_endpoint", "_entry_id", "_is_chunked", "_is_over", "_labels", "_meter",
        "_metrics", "_over", "_request", "_streams",
    )  # fmt: skip

    def __init__(
        self,
        request: Request,
        endpoint: Endpoint,
        entry_id: str,
        *,
        labels: Labels,
        metrics: Metrics,
        collect: Callable[[Reading], None],
        over: Callable[["Passage"], None],
    ) -> None:
        self._request = request
        self._endpoint = endpoint
        self._entry_id = entry_id
        self._labels = labels
        self._metrics = metrics
        self._collect = collect
        self._over = over
        self._meter = None if endpoint.later is None else Meter(endpoint, RequestFacts(), hide_usage=False)
        self._attempt: Attempt | None = None
        self._answer: ResponseHead | None = None
        self._is_chunked = request.head.chunked
        self._streams = False
        self._is_over = False

    def send(self, upstream: Upstream, tail: str, lines: list[bytes], *, at_origin: bool) -> None:
        head = self._request.head
        if head.chunked:
            lines.append(b"Transfer-Encoding: chunked")
        elif self._request.length or head.method in _WITH_BODY:
            lines.append(b"Content-Length: %d" % self._request.length)
        self._request.serving = self
        body = None if head.chunked or self._request.length else b""
        attempt = upstream.send(head.method, tail, lines, body, self, at_origin=at_origin, upgrade=head.upgrade)
        self._attempt = attempt
        if attempt.connection is not None and body is None:
            self.upstream_ready()

    def cut(self) -> None:
        """The worker ends."""
        if not self._is_over:
            self._cancel()
            self._finish(CLIENT_GONE)

    # --- what the client does ---

    def client_left(self) -> None:
        if not self._is_over:
            self._cancel()
            self._finish(101 if self._request.is_switched else CLIENT_GONE)

    def client_full(self) -> None:
        if self._attempt is not None:
            self._attempt.pause()

    def client_ready(self) -> None:
        if self._attempt is not None:
            self._attempt.resume()

    def client_sent(self, payload: bytes) -> None:
        if self._attempt is not None:
            self._attempt.send(chunk(payload) if self._is_chunked else payload)

    def client_sent_all(self, trailers: list[bytes]) -> None:
        if self._attempt is not None:
            if self._is_chunked:
                self._attempt.send(last_chunk(trailers))
            self._attempt.finish()

    # --- what the upstream does ---

    def upstream_full(self) -> None:
        self._request.hold()

    def upstream_ready(self) -> None:
        if self._attempt is None or self._is_over:  # it is being sent just now: see `send`
            return
        if self._request.is_switched or not self._attempt.sent_all:
            self._request.stream()

    def answered(self, head: ResponseHead) -> None:
        self._answer = head
        lines = to_client(head, keep_length=True, decoded=False)
        lines.append(b"x-taximeter-entry: " + self._entry_id.encode())
        if head.status == 101:
            lines += (b"Connection: Upgrade", b"Upgrade: websocket")
            self._is_chunked = False
            self._request.switch(head.reason, lines)
            return
        if self._meter is not None:
            self._meter.start(head.status, head.get("content-type") or "", head.get("content-encoding") or "")
        self._request.start(head.status, head.reason, lines, framed=not head.has_body or head.length is not None)

    def came(self, payload: bytes, framed: bytes | None) -> None:
        if self._meter is not None:
            self._meter.feed(payload)
        self._request.write(payload, framed)

    def ended(self, trailers: list[bytes]) -> None:
        assert self._answer is not None
        if self._meter is not None:
            reading = self._meter.finish(Ending.COMPLETE)
            if self._meter.ends_background:
                self._collect(reading)
        request = self._request
        self._finish(self._answer.status)
        request.end(trailers)

    def failed(self, error: UpstreamError) -> None:
        if self._is_over:
            return
        request = self._request
        if self._answer is None:
            refused = replies.upstream_failed(error)
            self._finish(refused.status)
            request.refuse(refused, self._entry_id)
        else:
            self._finish(self._answer.status)
            request.break_off()

    # --- the end ---

    def _cancel(self) -> None:
        if self._attempt is not None:
            self._attempt.cancel()

    def _finish(self, status: int) -> None:
        self._is_over = True
        self._request.serving = None
        self._attempt = None  # it knows this passage: both would wait for the collector
        try:
            self._metrics.answered(self._labels, self._endpoint.name, status)
        finally:
            self._over(self)
