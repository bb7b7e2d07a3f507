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

from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Literal, Protocol

from proxy.metering.answer import Answer
from proxy.metering.decoding import Inflater, inflater_for, is_identity
from proxy.metering.endpoints import Endpoint
from proxy.metering.estimate import CountText, count_text
from proxy.metering.event_stream import EventStream
from proxy.metering.reader import BAD
from proxy.metering.request import RequestFacts
from proxy.metering.whole_reply import UnreadReply, WholeReply
from rates.usage import MAX_QUANTITY, Usage


class Ending(Enum):
    COMPLETE = auto()
    """The reply came to the end that HTTP gave it."""
    BROKEN = auto()
    """The upstream stopped in the middle."""
    CLIENT_LEFT = auto()
    NO_STATUS = auto()
    """Sent, and never a status."""


ReadingStatus = Literal["reported", "estimated", "presumed", "failed", "pending"]


@dataclass(frozen=True, slots=True)
class Reading:
    """What an attempt used. `model` is the one that served it, if the reply named one."""

    status: ReadingStatus
    reason: str | None
    model: str | None
    usage: Usage
    service_tier: str | None
    upstream_id: str | None


class _Body(Protocol):
    answer: Answer

    @property
    def fault(self) -> str | None: ...
    def feed(self, data: bytes) -> bytes: ...
    def tail(self) -> bytes: ...
    def output_tokens(self) -> int: ...


class Meter:
    """start, feed …, tail, finish. Without `start` no status came.

    With `hide_usage` the usage that taximeter asked for is taken out of a stream again. `count_text` is what an
    estimate counts with.
    """

    def __init__(
        self, endpoint: Endpoint, facts: RequestFacts, *, hide_usage: bool, count_text: CountText = count_text
    ) -> None:
        reader = endpoint.reader or endpoint.later
        if reader is None:
            raise ValueError(f"{endpoint.name} is not metered")
        self._reader = reader
        self._facts = facts
        self._hide_usage = hide_usage
        self._count_text = count_text
        self._status: int | None = None
        self._is_stream = False
        self._inflater: Inflater | None = None
        self._body: _Body | None = None

    def start(self, status: int, content_type: str, content_encoding: str) -> None:
        """The head of the reply. Its content type decides how it is read, whatever the request asked for."""
        self._status = status
        self._is_stream = content_type.partition(";")[0].strip().lower() == "text/event-stream"
        facts = self._facts
        if not is_identity(content_encoding):
            self._inflater = inflater_for(content_encoding)
            if self._inflater is None:
                self._body = UnreadReply(facts.max_output_tokens and facts.max_output_tokens * facts.n)
                return
        if self._is_stream:
            self._body = EventStream(self._reader, self._count_text, choices_asked=facts.n, hide=self._hide_usage)
        else:
            self._body = WholeReply(self._reader, self._count_text, choices_asked=facts.n)

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
    def has_last_word(self) -> bool:
        """The reply is a success that came to its own end, and nothing is to follow. Known after `finish`."""
        body = self._body
        if body is None or self._status is None or not 200 <= self._status < 300:
            return False
        return body.answer.ended and not body.answer.unfinished

    def tail(self) -> bytes:
        """What was held back when the stream ended without its last blank line. Call it before `finish`."""
        return self._body.tail() if self._body is not None else b""

    def finish(self, ending: Ending) -> Reading:
        """The one reading. Call it once, at the end."""
        body = self._body
        if self._status is None or body is None:
            reason = "client_left" if ending is Ending.CLIENT_LEFT else "no_answer"
            return Reading("presumed", reason, None, Usage(input=self._facts.prompt_tokens), None, None)
        body.tail()
        answer = body.answer
        usage = answer.believed
        if self._is_pending(answer):
            return self._reading("pending", "background", answer, Usage(input=self._facts.prompt_tokens))
        if usage is not None and _is_final(answer, ending):
            if answer.search_kind_unclear:
                return self._reading("estimated", "search_kind", answer, usage)
            return self._reading("reported", None, answer, usage)
        if not 200 <= self._status < 300 or (answer.failed and answer.usage is None and not body.output_tokens()):
            return self._reading("failed", None, answer, Usage())
        return self._reading("estimated", self._why(body, ending), answer, self._estimate(body, usage))

    def _estimate(self, body: _Body, so_far: Usage | None) -> Usage:
        """Counted here; where the upstream gave numbers on the way, at least those."""
        output = min(body.output_tokens(), MAX_QUANTITY)
        if so_far is None:
            return Usage(input=self._facts.prompt_tokens, output=output)
        return replace(so_far, output=max(so_far.output, output - so_far.audio_output))

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
        return accepted and answer.unfinished and answer.upstream_id is not None

    @staticmethod
    def _reading(status: ReadingStatus, reason: str | None, answer: Answer, usage: Usage) -> Reading:
        return Reading(status, reason, answer.model, usage, answer.service_tier, answer.upstream_id)


def _is_final(answer: Answer, ending: Ending) -> bool:
    """Numbers that come while the answer goes on are final only when nothing can follow them."""
    if answer.unfinished:
        return False
    return answer.final or answer.ended or (answer.finishes and ending is Ending.COMPLETE)
