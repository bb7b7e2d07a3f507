"""One attempt: a request goes upstream once, its answer is relayed and read, and it ends in exactly one reading.

Where a budget may refuse, it first waits here for the store's word. Bytes are relayed where they come: the upstream's
connection calls, and the client's connection is written to; those of a stream that flows at the end of the turn, behind
all for which somebody still waits. Who leaves a stream stops the upstream; who leaves a whole reply lets it be read on
for `drain_seconds`: it is paid for in any case.

Above 300 lines because it is one state machine: whatever changes an exchange stands in this file.
"""

import asyncio
import logging
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING

from proxy.admission import Admitted
from proxy.deadlines import NEVER
from proxy.errors import JournalFailed, StoreAway, UpstreamError, UpstreamTooSlow, UpstreamUnreachable
from proxy.http1 import ResponseHead
from proxy.metering import Ending, Meter, Reading, RequestFacts
from proxy.metrics import CLIENT_GONE
from proxy.server import replies
from proxy.server.desk import Desk
from proxy.server.envelope import Envelope
from proxy.server.headers import to_client
from proxy.server.request import Request
from proxy.settlement import Settled, served_id
from proxy.store import Refusal
from proxy.upstream import Attempt
from rates.money import usd_text

if TYPE_CHECKING:
    from proxy.server.gate import Gate

log = logging.getLogger("taximeter")

# Up to here a JSON reply is kept until it is priced, so that its cost can stand in its head.
MAX_PRICED_REPLY = 4 * 1024 * 1024
# Bytes of a piece that waits for the end of its turn; a larger one is not kept in memory for that.
MAX_BEHIND = 16 * 1024
# Seconds that a JSON reply waits for a count of what the upstream did not say; then it has no cost in its head.
COUNTING_SECONDS = 1.0


class Exchange:
    """A metered attempt, from when it may pass to its settlement."""

    __slots__ = (
        "_answer", "_attempt", "_beginning", "_behind", "_body", "_count", "_desk", "_ended_at", "_feed", "_flows",
        "_gate", "_has_come", "_hide_usage", "_is_behind", "_is_counted_open", "_is_over", "_is_unread", "_keeps",
        "_kept", "_kept_size", "_latency_ms", "_meter", "_request", "_sent", "_settled", "_started", "_status",
        "_trailers", "_waits_for_count", "admitted", "deadline", "envelope", "facts",
    )  # fmt: skip

    def __init__(
        self,
        desk: Desk,
        gate: "Gate",
        request: Request,
        envelope: Envelope,
        facts: RequestFacts,
        admitted: Admitted,
        *,
        beginning: bytes,
        body: bytes,
        hide_usage: bool,
        started: float,
    ) -> None:
        """`beginning` and `body` are what goes upstream."""
        self._desk = desk
        self._gate = gate
        self._request = request
        self.envelope = envelope
        self.facts = facts
        self.admitted = admitted
        self._beginning = beginning
        self._body = body
        self._hide_usage = hide_usage
        self._started = started
        self._meter = Meter(envelope.endpoint, facts, hide_usage=hide_usage)
        self._feed: Callable[[bytes], bytes] = self._meter.feed
        self._attempt: Attempt | None = None
        self._answer: ResponseHead | None = None
        self._sent = 0.0
        self._ended_at = 0.0
        self._latency_ms = 0
        self._count: asyncio.Task[None] | None = None
        self._settled: Settled | None = None
        self._status: int | None = None
        self._keeps = False  # the reply, until it is whole
        self._flows = False  # bytes of it went out
        self._behind: list[tuple[bytes, bytes | None]] = []  # what came in this turn, of a stream that flows
        self._is_behind = False
        self._has_come = False  # all of the stream
        self._kept: list[bytes] = []
        self._kept_size = 0
        self._trailers: list[bytes] = []
        self._waits_for_count = False
        self._is_counted_open = False
        self._is_over = False
        self._is_unread = False
        self.deadline = NEVER
        request.serving = self

    @property
    def is_over(self) -> bool:
        return self._is_over

    @property
    def body(self) -> bytes:
        """As it goes upstream."""
        return self._body

    # --- the store's word ---

    def held(self) -> None:
        """The money is set aside, and the request is journalled."""
        if not self._is_over:
            self.send()

    def refused(self, refusal: Refusal) -> None:
        self._not_held(refusal)

    def store_failed(self, error: StoreAway) -> None:
        self._not_held(error)

    def journal_failed(self, error: JournalFailed) -> None:
        self._not_held(error)

    def _not_held(self, answer: Refusal | StoreAway | JournalFailed) -> None:
        if not self._is_over:
            self._gate.not_held(self, answer)

    def refuse(self, refused: replies.Refused) -> None:
        """It is not sent. Nothing is held for it any more, and nothing is journalled."""
        self._leave()
        self._request.refuse(refused, self.admitted.entry_id)

    def _withdraw(self) -> None:
        """Nobody waits for the store's word any more."""
        self._gate.withdrawn(self)
        self._leave()

    def _leave(self) -> None:
        """Nothing more comes, and nothing is settled."""
        self._let_go()
        self._gate.over(self)

    def send(self) -> None:
        """From here on it ends by itself, in one reading."""
        desk, body = self._desk, self._body
        now = perf_counter()
        self._sent = now
        # A lifetime counts from the request's head.
        self.deadline = desk.loop.time() + self._lifetime - (now - self._started)
        desk.deadlines.watch(self)
        head = b"%bContent-Length: %d\r\n\r\n" % (self._beginning, len(body))
        try:
            self._attempt = desk.upstream.send_head(self._request.head.method, head, body, self)
        except Exception:  # it concerns this request alone, and nobody knows how far it came
            log.exception("internal fault in sending a request")
            self.failed(UpstreamUnreachable("the request could not be sent: an internal fault", sent=True))

    @property
    def _lifetime(self) -> float:
        return self.admitted.rules.config.max_request_seconds

    # --- what the client does ---

    def client_left(self) -> None:
        """A stream ends now, a whole reply may still be read to its end."""
        self.catch_up()
        if self._is_over or self._waits_for_count:
            return
        if not self._sent:
            self._withdraw()
            return
        streaming = self._meter.is_stream if self._answer is not None else self.facts.stream
        if streaming:
            self._cut(Ending.CLIENT_LEFT)
        else:
            drain_seconds = self.admitted.rules.config.drain_seconds
            self.deadline = min(self.deadline, self._desk.loop.time() + drain_seconds)
            if self._attempt is not None:
                self._attempt.resume()

    def client_full(self) -> None:
        if self._attempt is not None:
            self._attempt.pause()

    def client_ready(self) -> None:
        if self._attempt is not None:
            self._attempt.resume()

    def client_sent(self, payload: bytes) -> None:
        """The body was read before: there is nothing more."""

    def client_sent_all(self, trailers: list[bytes]) -> None:
        """Neither is there here."""

    # --- what the clock does ---

    def expire(self) -> None:
        self.catch_up()
        if self._is_over or self._waits_for_count:
            return
        if self._request.gone:
            self._cut(Ending.CLIENT_LEFT)  # drain_seconds are over
            return
        reason = f"the request took longer than {self._lifetime:g} s (max_request_seconds)"
        if self._attempt is not None:
            self._attempt.cancel()
        self.failed(UpstreamTooSlow(reason, sent=self._attempt is not None and self._attempt.began))

    def cut(self) -> None:
        """The worker ends."""
        self.catch_up()
        self._cut(Ending.CLIENT_LEFT)

    # --- what the upstream does ---

    def upstream_full(self) -> None:
        """The body is whole: it waits where it is."""

    def upstream_ready(self) -> None:
        """Nothing waits for it."""

    def answered(self, head: ResponseHead) -> None:
        self._answer = head
        content_type = head.get("content-type") or ""
        self._meter.start(head.status, content_type, head.get("content-encoding") or "")
        self._feed = self._meter.feeder
        if content_type != "application/json":
            kind = content_type.partition(";")[0].strip().lower()
            self._keeps = kind == "application/json" or kind.endswith("+json")
        else:
            self._keeps = True
        if not self._keeps:
            self._is_counted_open = True
            self._desk.metrics.open_streams.add(1)
            self._open(head)

    def came(self, payload: bytes, framed: bytes | None) -> None:
        if self._flows:
            self._behind.append((payload, framed))
            if len(payload) > MAX_BEHIND:
                self.catch_up()
            else:
                self._owe()
            return
        if self._keeps:
            self._kept.append(self._meter.feed(payload))
            self._kept_size += len(payload)
            if self._kept_size > MAX_PRICED_REPLY:
                self._flow_kept()
            return
        self._flows = True
        came = perf_counter()
        visible = self._meter.feed(payload)
        if visible:
            self._request.write(visible, framed if visible is payload else None)
        now = perf_counter()
        self._desk.metrics.first_token.observe(now - self._started)
        self._desk.metrics.overhead.observe((self._sent - self._started) + (now - came))

    def ended(self, trailers: list[bytes]) -> None:
        self._trailers = trailers
        if self._flows:
            self._has_come = True
            self._owe()
            return
        if not self._keeps:
            self._end_flow()
            return
        self._ended_at = perf_counter()
        self._end(Ending.COMPLETE)
        if self._count is None or self._count.done() or self._request.gone:
            self._reply_whole()
            return
        self._waits_for_count = True
        self._desk.loop.call_later(COUNTING_SECONDS, self._reply_whole)
        self._count.add_done_callback(lambda _: self._reply_whole())

    def failed(self, error: UpstreamError) -> None:
        self.catch_up()
        if self._is_over:
            return
        if self._answer is None:
            refused = replies.upstream_failed(error)
            self._status = refused.status
            if error.sent:
                self._end(Ending.CLIENT_LEFT if self._request.gone else Ending.NO_STATUS)
            self._request.refuse(refused, self.admitted.entry_id)
        else:
            # The client gets what it would have got: the head, the part, and a broken connection.
            if self._keeps:
                self._flow_kept()
            if rest := self._meter.tail():
                self._request.write(rest)
            self._end(Ending.BROKEN)
            self._request.break_off()
        self._finish()

    def _owe(self) -> None:
        if not self._is_behind:
            self._is_behind = True
            self._desk.turn_end.owes(self)

    def catch_up(self) -> None:
        """Relay what came in this turn of a stream that flows. Before anything else happens to it, too."""
        if not self._is_behind and not self._behind:
            return
        self._is_behind = False
        behind, self._behind = self._behind, []
        is_whole, self._has_come = self._has_come, False
        request = self._request
        try:
            if is_whole or len(behind) > 1:
                request.gather()
            for payload, framed in behind:
                visible = self._feed(payload)
                if visible:
                    request.write(visible, framed if visible is payload else None)
            if is_whole:
                self._end_flow()
            else:
                request.flush()
        except Exception:  # it concerns this stream alone
            log.exception("internal fault in relaying a stream")
            if self._attempt is not None:
                self._attempt.cancel()
            self.failed(UpstreamUnreachable("the stream could not be relayed: an internal fault", sent=True))

    def _end_flow(self) -> None:
        """All of it is there. Its client's last byte waits for no reading."""
        if rest := self._meter.tail():
            self._request.write(rest)
        self._request.end(self._trailers)
        self._end(Ending.COMPLETE)
        self._finish()

    # --- the reply ---

    def _open(self, answer: ResponseHead) -> None:
        """Begin a reply that comes in pieces, if somebody is there to read it."""
        self._note_status(answer)
        hidden = self._hide_usage and self._meter.is_stream
        framed = not answer.has_body or (answer.length is not None and not hidden)
        lines = to_client(answer, keep_length=not hidden, decoded=self._meter.decodes)
        lines.append(b"x-taximeter-entry: " + self.admitted.entry_id.encode())
        self._request.start(answer.status, answer.reason, lines, framed=framed)

    def _reply_whole(self) -> None:
        """The reply of ordinary size."""
        if self._is_over:
            return
        try:
            self._write_whole()
        except Exception:  # its reading stands
            log.exception("internal fault in writing a reply")
            self._request.break_off()
        self._finish()

    def _write_whole(self) -> None:
        """With its cost, where it is known by now."""
        answer, settled = self._answer, self._settled
        assert answer is not None
        self._note_status(answer)
        lines = to_client(answer, keep_length=True, decoded=False)
        lines.append(b"x-taximeter-entry: " + self.admitted.entry_id.encode())
        if settled is not None and settled.cost_nanos is not None:
            lines.append(b"x-taximeter-cost-usd: " + (usd_text(settled.cost_nanos) or "0").encode())
        kept = self._kept
        if answer.length is not None:
            self._request.reply(answer.status, answer.reason, lines, kept[0] if len(kept) == 1 else b"".join(kept))
        else:
            self._request.start(answer.status, answer.reason, lines, framed=not answer.has_body)
            for piece in kept:
                self._request.write(piece)
            self._request.end(self._trailers)
        self._desk.metrics.overhead.observe((self._sent - self._started) + (perf_counter() - self._ended_at))

    def _note_status(self, answer: ResponseHead) -> None:
        """What is counted is the status that was sent, if somebody was there."""
        if not self._request.gone:
            self._status = answer.status

    def _flow_kept(self) -> None:
        """It is too large to be kept, or will never be whole: it flows, without its cost in the head."""
        assert self._answer is not None
        self._keeps = False
        self._flows = True
        self._open(self._answer)
        kept, self._kept = self._kept, []
        for piece in kept:
            self._request.write(piece)

    # --- the end ---

    def _cut(self, ending: Ending) -> None:
        """Nobody waits for the rest, or nobody may: the upstream is told by closing its connection."""
        if self._is_over or self._waits_for_count:
            return
        if not self._sent:
            self._withdraw()
            return
        attempt = self._attempt
        if attempt is not None:
            attempt.cancel()
            if attempt.began:
                self._end(ending)
        self._finish()

    def _end(self, ending: Ending) -> None:
        """The one reading: priced at once where the upstream said it, else when its tokens have been counted.

        That is a task of its own: neither a client that leaves nor the end of this exchange can take it away. Should
        the reading fail, the client has what came all the same.
        """
        try:
            now = perf_counter()
            self._latency_ms = round((now - self._started) * 1000)
            self._desk.metrics.upstream.observe(now - self._sent)
            ended = self._meter.end(ending, self._body)
            if isinstance(ended, Reading):
                self._price(ended)
                return
            admitted = self.admitted
            model = served_id(admitted.rules, admitted.asked_model, ended.reading.model)
            self._count = self._desk.counting.start(ended, model, self._price)
        except Exception:
            log.exception("internal fault in reading an answer")
            self._is_unread = True

    def _price(self, reading: Reading) -> None:
        self._settled = self._desk.settlement.charge(
            self.admitted,
            self.envelope.endpoint.name,
            reading,
            upstream_status=self._answer.status if self._answer else None,
            client_request_id=self.envelope.client_request_id,
            upstream_request_id=self._answer.get("x-request-id") if self._answer else None,
            latency_ms=self._latency_ms,
        )

    def _finish(self) -> None:
        """Nothing more comes. What is still being counted is settled when it has been."""
        if self._is_unread:
            self._leave()  # open in the journal: whoever adopts that presumes it
            return
        self._let_go()
        if self._request.gone or self._status is None:
            self._status = CLIENT_GONE
        try:
            if self._count is None or self._count.done():
                self._settle()
            else:
                self._count.add_done_callback(lambda _: self._settle())
        finally:  # whatever cannot be counted (a metrics' file on a full disk), it is not open any more
            self._gate.over(self)

    def _let_go(self) -> None:
        self._is_over = True
        self._desk.deadlines.forget(self)
        self._request.serving = None
        self._attempt = None  # it knows this exchange: both would wait for the collector
        self._kept = []
        if self._is_counted_open:
            self._desk.metrics.open_streams.add(-1)

    def _settle(self) -> None:
        """Count the request, and move its money; without an upstream byte there is only its hold to let go."""
        if self._settled is not None:
            self._desk.settlement.settle(self._settled)
            labels = self._settled.labels
        else:
            self._desk.settlement.release(self.admitted)
            labels = self._desk.settlement.labels_of(self.admitted)
        self._desk.metrics.answered(labels, self.envelope.endpoint.name, self._status or CLIENT_GONE)
