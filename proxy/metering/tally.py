"""Counting texts with a tokenizer, in pieces and up to a bound, so that no text holds a CPU for long."""

from collections.abc import Iterable
from typing import Final

from proxy.metering.encodings import Encode
from proxy.metering.estimate import count_text

MOST = 1024 * 1024
"""Characters that one tally encodes. Beyond it the rest counts like what was encoded: ordinary text takes 0.1 s up to
here, the most hostile that we know 0.6 s."""
# A text costs a call, however short it is: as much as so many characters.
_CALL: Final = 32
# Characters. Some million blanks at once make tiktoken panic, and very long words take it longer than short ones.
_PIECE: Final = 8 * 1024
# How far from its end a piece looks for a place where nothing is cut apart.
_LOOK_BACK: Final = 256


class Tally:
    """Invariant: `tokens` is what was encoded, and for all that was not its share by its characters."""

    def __init__(self, encode: Encode, most: int = MOST) -> None:
        self._encode = encode
        self._left = most
        self._encoded = 0
        self._characters = 0
        self._beyond = 0

    def add(self, text: str) -> None:
        if not text:
            return
        self._left -= _CALL
        at = 0
        while at < len(text) and self._left > 0:
            end = _cut(text, at)
            self._encoded += self._count(text[at:end])
            self._left -= end - at
            at = end
        self._characters += at
        self._beyond += len(text) - at

    def add_all(self, texts: Iterable[str]) -> None:
        for text in texts:
            self.add(text)

    @property
    def tokens(self) -> int:
        if not self._beyond:
            return self._encoded
        return self._encoded + -(-self._beyond * self._encoded // max(self._characters, 1))

    def _count(self, piece: str) -> int:
        try:
            return len(self._encode(piece))
        except BaseException as panic:
            # What Rust panics with is no Exception, and it has no public name.
            if type(panic).__name__ != "PanicException":
                raise
            return count_text(piece)


def _cut(text: str, at: int) -> int:
    """Where the piece that starts at `at` ends: before a single blank, if there is one, as words begin with theirs."""
    end = at + _PIECE
    if end >= len(text):
        return len(text)
    blank = text.rfind(" ", end - _LOOK_BACK, end)
    if blank > at and not text[blank - 1].isspace() and not text[blank + 1].isspace():
        return blank
    return end
