"""A reply as a stream of events: read as it passes, and shown without its usage where that has to be hidden."""

from proxy.metering.answer import Answer
from proxy.metering.estimate import CountTexts
from proxy.metering.hiding import cut_last_member, without_event, without_null_usage
from proxy.metering.reader import Reader
from proxy.metering.seen_text import SeenText
from proxy.metering.sse import EventCutter, Kind, data_of

_DONE = b"[DONE]"
_ERROR = b'"error"'


class EventStream:
    """`feed` gives what the client may have: the same bytes, or with `hide` each event as soon as it is whole.

    Most events say nothing but text. They are not decoded: a search for the few words that matter passes over them.
    """

    fault: str | None = None

    def __init__(self, reader: Reader, *, choices_asked: int, hide: bool) -> None:
        self.answer = Answer(choices_asked)
        self._read = reader.read_event
        self._hide = hide
        self._cutter = EventCutter()
        self._seen_text = SeenText(reader, interleaved=choices_asked > 1)
        self._dropped = False  # the last event, with its blank line

    def feed(self, data: bytes) -> bytes:
        self._seen_text.add(data)
        if (
            self.answer.model is not None
            and self._cutter.between_events
            and data.endswith((b"\n\n", b"\r\n\r\n"))
            and not _says_more(data)
        ):
            return data
        shown: list[bytes] = []
        for kind, piece in self._cutter.feed(data):
            if kind is Kind.EVENT:
                shown.append(self._event(piece))
            elif kind is Kind.UNREAD:
                self._dropped = False
                shown.append(piece)
            elif not self._dropped:
                shown.append(piece)
        return b"".join(shown) if self._hide else data

    def tail(self) -> bytes:
        """The last event, when the stream ends without its blank line; nothing when it was shown before."""
        rest = self._cutter.rest()
        shown = self._event(rest) if rest else b""
        return shown if self._hide else b""

    def gather(self) -> None:
        self._seen_text.gather()

    def output_tokens(self, count: CountTexts) -> int:
        return self._seen_text.tokens(count)

    def _event(self, block: bytes) -> bytes:
        self._dropped = False
        if self.answer.model is not None:
            if not _says_more(block):
                return block
            if self._hide and _ERROR not in block and (cut := cut_last_member(block)) is not None:
                return cut
        payload = data_of(block)
        if payload is None:
            return block
        if payload.strip() == _DONE:
            self.answer.ended = True
            return block
        said = self._read(payload)
        if said is None:
            return block
        self.answer.take(said)
        if self._hide and said.extra:
            self._dropped = True
            return without_event(block)
        return without_null_usage(block) if self._hide and said.null_usage else block


def _says_more(data: bytes) -> bool:
    r"""There may be more than text in it: usage, an end, an error, or a key written with escapes (\u0075sage)."""
    return b"usage" in data or _DONE in data or _ERROR in data or b"\\u006" in data or b"\\u007" in data
