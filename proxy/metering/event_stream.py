"""A reply as a stream of events: read as it passes, and shown without its usage where that has to be hidden."""

from typing import Final

from msgspec import UNSET

from proxy.metering.answer import Answer
from proxy.metering.estimate import CountTexts
from proxy.metering.hiding import cut_last_member, without_event, without_null_usage
from proxy.metering.reader import Reader
from proxy.metering.seen_text import SeenText
from proxy.metering.sse import MAX_EVENT, EventCutter, Kind, data_of, is_one_line

_DONE: Final = b"[DONE]"


class EventStream:
    """`feed` gives what the client may have: the same bytes, or with `hide` each event as soon as it is whole.

    Once the model is known, most events say nothing but text. Those are decoded in one go, for the text and for the
    certainty that they say no more; how they were cut does not matter, as each goes the same way by itself.
    """

    fault: str | None = None

    def __init__(self, reader: Reader, *, choices_asked: int, hide: bool) -> None:
        self.answer = Answer(choices_asked)
        self._read = reader.read_event
        self._texts_of = reader.text_of_event
        self._decode_plain = reader.plain_event
        self._plain_texts = reader.plain_texts
        self._hide = hide
        self._cutter = EventCutter()
        self._seen_text = SeenText(interleaved=choices_asked > 1)
        self._dropped = False  # the last event, with its blank line
        self._may_be_plain = False  # what comes next: the model is known, and it starts an event

    def feed(self, data: bytes) -> bytes:
        if self._may_be_plain:  # by far the most: one event, whole
            shown = self._plain(data)
            if shown is not None:
                return shown
        pieces: list[bytes] = []
        for kind, piece in self._cutter.feed(data):
            if kind is Kind.EVENT:
                pieces.append(self._event(piece))
            elif kind is Kind.UNREAD:
                self._dropped = False
                pieces.append(piece)
            elif not self._dropped:
                pieces.append(piece)
        self._may_be_plain = self._cutter.between_events and self.answer.model is not None
        return b"".join(pieces) if self._hide else data

    def tail(self) -> bytes:
        """The last event, when the stream ends without its blank line; nothing when it was shown before."""
        rest = self._cutter.rest()
        shown = self._event(rest) if rest else b""
        return shown if self._hide else b""

    def gather(self) -> None:
        """The stream has ended."""
        self._seen_text.gather()

    def output_tokens(self, count: CountTexts) -> int:
        return self._seen_text.tokens(count)

    def _plain(self, block: bytes) -> bytes | None:
        """What is shown of an event that says nothing but text; None: there may be more in it, or in these bytes."""
        start = 6
        if not block.startswith(b"data: "):
            if not block.startswith(b"event: "):
                return None
            start = block.find(10) + 7
            if not block.startswith(b"data: ", start - 6):
                return None
        size = len(block)
        # One line of data, and a blank one.
        if block.find(10, start) != size - 2 or block[-1] != 10 or 13 in block or size > MAX_EVENT:
            return None
        try:
            event = self._decode_plain(block[start:-2])
        except (ValueError, RecursionError):
            return None
        usage, texts, shown = event.usage, self._plain_texts(event), block
        if texts is None:
            return None
        if usage is not UNSET:
            if usage is not None:
                return None
            if self._hide:
                cut = cut_last_member(block)
                if cut is None:
                    return None
                shown = cut
        if texts:
            self._seen_text.add(texts, size)
        return shown

    def _event(self, block: bytes) -> bytes:
        self._dropped = False
        if self.answer.model is not None:
            shown = self._plain(block)
            if shown is not None:
                return shown
        payload = data_of(block)
        if payload is None:
            return block
        if payload.strip() == _DONE:
            self.answer.ended = True
            return block
        said = self._read(payload)
        self._seen_text.add(list(self._texts_of(payload)), len(payload))
        if said is None:
            return block
        self.answer.take(said)
        if self._hide and said.extra:
            self._dropped = True
            return without_event(block)
        if self._hide and said.null_usage:
            cut = cut_last_member(block) if is_one_line(block) else None  # the scanner takes 50 times as long
            return without_null_usage(block) if cut is None else cut
        return block
