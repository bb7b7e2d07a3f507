"""The meter of one attempt: status, bytes and ending go in; exactly one reading comes out.

What the readings say, and why:

    reported   the upstream gave final numbers, all believable
    estimated  an answer came, final numbers did not. Its `reason`:
               no_usage      the answer ended as it should and carried none
               bad_usage     it carried numbers that no request can have
               client_left   the client hung up before they came
               stream_broke  the upstream broke off, or reported an error in the middle of its answer
               unreadable    not JSON, garbage, or an encoding that is not read here
               too_large     a whole reply above the bound
               search_kind   final numbers, but searches of which nobody says what kind they were: the dearer one counts
    presumed   sent, and never an answer (`no_answer`, or `client_left`): the prompt is presumed to have been used
    failed     a status that is no success, or a response that says it failed before it wrote anything; without usage:
               nothing was used
    pending    accepted to be worked on in the background: its usage comes with a later request (`background`)
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol

from proxy.metering.answer import Answer
from proxy.metering.decoding import Inflater, inflater_for, is_identity
from proxy.metering.endpoints import Endpoint
from proxy.metering.estimate import CountTexts, count_texts
from proxy.metering.event_stream import EventStream
from proxy.metering.reader import BAD
from proxy.metering.reading import Uncounted
from proxy.metering.records import Reading, ReadingStatus, RequestFacts
from proxy.metering.whole_reply import UnreadReply, WholeReply
from rates.usage import Usage


class Ending(Enum):
    COMPLETE = auto()
    """The reply came to the end that HTTP gave it."""
    BROKEN = auto()
    """The upstream stopped in the middle."""
    CLIENT_LEFT = auto()
    NO_STATUS = auto()
    """Sent, and never a status."""


class _Body(Protocol):
    answer: Answer

    @property
    def fault(self) -> str | None: ...
    def feed(self, data: bytes) -> bytes: ...
    def tail(self) -> bytes: ...
    def gather(self) -> None: ...
    def output_tokens(self, count: CountTexts) -> int: ...


class Meter:
    """start, feed …, tail, end. Without `start` no status came.

    With `hide_usage` the usage that taximeter asked for is taken out of a stream again.
    """

    __slots__ = (
        "_body", "_endpoint", "_facts", "_hide_usage", "_inflater", "_is_stream", "_reader", "_status",
    )  # fmt: skip

    def __init__(self, endpoint: Endpoint, facts: RequestFacts, *, hide_usage: bool) -> None:
        reader = endpoint.reader or endpoint.later
        if reader is None:
            raise ValueError(f"{endpoint.name} is not metered")
        self._endpoint = endpoint.name
        self._reader = reader
        self._facts = facts
        self._hide_usage = hide_usage
        self._status: int | None = None
        self._is_stream = False
        self._inflater: Inflater | None = None
        self._body: _Body | None = None

    def start(self, status: int, content_type: str, content_encoding: str) -> None:
        """The head of the reply. Its content type decides how it is read, whatever the request asked for."""
        self._status = status
        if content_type != "application/json":
            self._is_stream = content_type.partition(";")[0].strip().lower() == "text/event-stream"
        facts = self._facts
        if content_encoding and not is_identity(content_encoding):
            self._inflater = inflater_for(content_encoding)
            if self._inflater is None:
                self._body = UnreadReply(facts.max_output_tokens and facts.max_output_tokens * facts.n)
                return
        if self._is_stream:
            self._body = EventStream(self._reader, choices_asked=facts.n, hide=self._hide_usage)
        else:
            self._body = WholeReply(self._reader, choices_asked=facts.n)

    @property
    def is_stream(self) -> bool:
        """The reply is text/event-stream."""
        return self._is_stream

    @property
    def decodes(self) -> bool:
        """`feed` gives decoded bytes: the reply must go on without its Content-Encoding. Known after `start`."""
        return self._hide_usage and self._is_stream and self._inflater is not None

    def feed(self, data: bytes) -> bytes:
        """What the client may have now: `data` itself, unless usage is hidden."""
        if self._body is None:
            return data
        if self._inflater is None:
            return self._body.feed(data)
        shown = [self._body.feed(piece) for piece in self._inflater.feed(data)]
        return b"".join(shown) if self.decodes else data

    @property
    def feeder(self) -> Callable[[bytes], bytes]:
        """The same as `feed`, for a reply of many pieces: one call less for each. Known after `start`."""
        return self.feed if self._body is None or self._inflater is not None else self._body.feed

    @property
    def ends_background(self) -> bool:
        """The reply may be the end of a request that was accepted before. Known after `end`."""
        body = self._body
        if body is None or self._status is None or not 200 <= self._status < 300:
            return False
        return body.answer.ended and not body.answer.unfinished and body.answer.background is not False

    def tail(self) -> bytes:
        """What was held back when the stream ended without its last blank line. Call it before `end`."""
        return self._body.tail() if self._body is not None else b""

    def finish(self, ending: Ending) -> Reading:
        """The one reading, its tokens counted only roughly if the upstream did not say them. Instead of `end`."""
        ended = self.end(ending)
        return ended if isinstance(ended, Reading) else ended.roughly()

    def end(self, ending: Ending, request_body: bytes = b"") -> Reading | Uncounted:
        """The one reading, or what has to be counted for it. Call it once.

        `request_body` is what the prompt is counted from; without it the prompt is only as good as the hold's.
        """
        body = self._body
        if self._status is None or body is None:
            reason = "client_left" if ending is Ending.CLIENT_LEFT else "no_answer"
            return self._uncounted(Reading("presumed", reason, None, Usage(), None, None), None, request_body)
        body.tail()
        answer = body.answer
        usage = answer.usage if isinstance(answer.usage, Usage) else None
        if answer.unfinished:
            if self._is_pending(answer):
                return self._reading("pending", "background", answer, Usage(input=self._facts.prompt_tokens))
        # Numbers that come while the answer goes on are final only when nothing can follow them.
        elif usage is not None and (answer.final or answer.ended or (answer.finishes and ending is Ending.COMPLETE)):
            if answer.search_kind_unclear:
                return self._reading("estimated", "search_kind", answer, usage)
            return Reading("reported", None, answer.model, usage, answer.service_tier, answer.upstream_id)
        if not 200 <= self._status < 300 or _wrote_nothing(answer, body):
            return self._reading("failed", None, answer, Usage())
        reading = self._reading("estimated", self._why(body, ending), answer, usage or Usage())
        return self._uncounted(reading, body, request_body)

    def _uncounted(self, reading: Reading, body: _Body | None, request_body: bytes) -> Uncounted:
        if body is not None:
            body.gather()
        return Uncounted(
            reading=reading,
            so_far=body is not None and body.answer.believed is not None,
            endpoint=self._endpoint,
            rough_prompt=self._facts.prompt_tokens,
            request_body=request_body if self._facts.body_is_json else b"",
            written=body,
        )

    def _why(self, body: _Body, ending: Ending) -> str:
        answer = body.answer
        if answer.usage == BAD:
            return "bad_usage"
        if not answer.ended and ending is not Ending.COMPLETE:
            return "client_left" if ending is Ending.CLIENT_LEFT else "stream_broke"
        if self._inflater is not None and self._inflater.failed:
            return "unreadable"
        if body.fault is not None:
            return body.fault
        broke_inside = answer.believed is not None or (answer.error and self._is_stream)
        return "stream_broke" if broke_inside else "no_usage"

    def _is_pending(self, answer: Answer) -> bool:
        """Without an id nobody could ask for it later."""
        accepted = self._status is not None and 200 <= self._status < 300
        return accepted and answer.upstream_id is not None

    @staticmethod
    def _reading(status: ReadingStatus, reason: str | None, answer: Answer, usage: Usage) -> Reading:
        return Reading(status, reason, answer.model, usage, answer.service_tier, answer.upstream_id)


def _wrote_nothing(answer: Answer, body: _Body) -> bool:
    """It says that it failed, and there is nothing to be paid for."""
    if not answer.failed or answer.usage is not None:
        return False
    body.gather()
    return not body.output_tokens(count_texts)
