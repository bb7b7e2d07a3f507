"""The text that a stream has brought, kept for the case that no usage comes.

Almost every stream ends with its usage, and then this was never needed. So bytes are kept as they came and decoded only
when there are many of them, or at the end when the count is asked for.
"""

from proxy.metering.estimate import CountTexts
from proxy.metering.reader import CalledName, Reader
from proxy.metering.sse import EventCutter, Kind, data_of

# Bytes of a stream kept undecoded: some 500 chunks. Their text is about a fiftieth of it.
_MAX_RAW = 128 * 1024
MAX_TEXT = 4 * 1024 * 1024
"""Characters. What comes beyond them is not kept: it counts like what was kept, by its length."""
# What a text costs that is kept by itself, in characters.
_APART = 64


class SeenText:
    """Invariant: the texts kept, and the characters beyond them, are all text of the whole events decoded so far.

    Deltas that follow each other are one text, as a token may have come in two of them. Where several choices come
    `interleaved`, each delta stands alone: it is a token or more.
    """

    def __init__(self, reader: Reader, *, interleaved: bool = False) -> None:
        self._text_of_event = reader.text_of_event
        self._interleaved = interleaved
        self._cutter = EventCutter()
        self._raw: list[bytes] = []
        self._raw_size = 0
        self._fresh: list[str] = []  # deltas, many and small
        self._run: list[str] = []  # deltas that follow each other, some hundred in a piece
        self._texts: list[str] = []
        self._size = 0
        self._kept = 0
        self._beyond = 0

    def add(self, data: bytes) -> None:
        self._raw.append(data)
        self._raw_size += len(data)
        if self._raw_size > _MAX_RAW:
            self._decode_raw()

    def gather(self) -> None:
        """The stream has ended: decode what is left, an event without its blank line included."""
        self._decode_raw()
        self._decode_event(self._cutter.rest())
        self._end_run()

    def tokens(self, count: CountTexts) -> int:
        """Tokens of everything seen. Changes nothing: call `gather` before."""
        tokens = count(self._texts)
        return tokens + -(-self._beyond * tokens // max(self._kept, 1))

    def _decode_raw(self) -> None:
        for piece in self._cutter.feed(b"".join(self._raw)):
            if piece.kind is Kind.EVENT:
                self._decode_event(piece.data)
        self._raw.clear()
        self._raw_size = 0
        if self._fresh:
            self._run.append("".join(self._fresh))
            self._fresh.clear()

    def _decode_event(self, block: bytes) -> None:
        payload = data_of(block)
        if payload is None:
            return
        for text in self._text_of_event(payload):
            self._keep(text)

    def _keep(self, text: str) -> None:
        apart = self._interleaved or isinstance(text, CalledName)
        self._size += len(text) + (_APART if apart else 0)
        if self._size > MAX_TEXT:
            self._beyond += len(text)
            return
        self._kept += len(text)
        if apart:
            self._end_run()
            self._texts.append(text)
        else:
            self._fresh.append(text)

    def _end_run(self) -> None:
        if run := "".join((*self._run, *self._fresh)):
            self._texts.append(run)
        self._run.clear()
        self._fresh.clear()
