"""The text that a stream has brought, kept for the case that no usage comes.

Almost every stream ends with its usage, and then this was never needed. So bytes are kept as they came and decoded only
when there are many of them, or at the end when the count is asked for.
"""

from proxy.metering.estimate import CountText
from proxy.metering.reader import Reader
from proxy.metering.sse import EventCutter, Kind, data_of

# Bytes of a stream kept undecoded: some 500 chunks. Their text is about a fiftieth of it.
_MAX_RAW = 128 * 1024
_MAX_TEXT = 4 * 1024 * 1024
"""Characters. Above it the text is counted and forgotten; only the count goes on."""


class SeenText:
    """Invariant: the text kept, and the tokens counted of text no longer kept, are all text of the whole events."""

    def __init__(self, reader: Reader, count_text: CountText) -> None:
        self._text_of_event = reader.text_of_event
        self._count_text = count_text
        self._cutter = EventCutter()
        self._raw: list[bytes] = []
        self._raw_size = 0
        self._texts: list[str] = []
        self._text_size = 0
        self._counted = 0

    def add(self, data: bytes) -> None:
        self._raw.append(data)
        self._raw_size += len(data)
        if self._raw_size > _MAX_RAW:
            self._decode_raw()

    def tokens(self) -> int:
        """Tokens of everything seen, an event without its blank line included. For the end of the stream."""
        self._decode_raw()
        self._decode_event(self._cutter.rest())
        self._count_texts()
        return self._counted

    def _decode_raw(self) -> None:
        for piece in self._cutter.feed(b"".join(self._raw)):
            if piece.kind is Kind.EVENT:
                self._decode_event(piece.data)
        self._raw.clear()
        self._raw_size = 0

    def _decode_event(self, block: bytes) -> None:
        payload = data_of(block)
        if payload is None:
            return
        for text in self._text_of_event(payload):
            self._texts.append(text)
            self._text_size += len(text)
        if self._text_size > _MAX_TEXT:
            self._count_texts()

    def _count_texts(self) -> None:
        self._counted += self._count_text("".join(self._texts))
        self._texts.clear()
        self._text_size = 0
