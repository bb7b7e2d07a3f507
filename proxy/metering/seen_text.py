"""The text that a stream has brought, kept for the case that no usage comes: almost every stream ends with its usage,
and then this was never needed. So it is taken in as it comes, put in order now and then, and counted at the end.
"""

from collections.abc import Sequence
from typing import Final

from proxy.metering.estimate import CountTexts
from proxy.metering.reader import CalledName

MAX_TEXT = 4 * 1024 * 1024
"""Characters. What comes beyond them is not kept: it counts like what was kept, by its length."""
# What a text costs that is kept by itself, in characters.
_APART: Final = 64
# Texts as they came: each takes some 60 bytes for its 5 characters.
_MAX_FRESH: Final = 128
# Bytes of the event that brought them: above, they are put in order at once.
_LARGE: Final = 4096


class SeenText:
    """Deltas that follow each other are one text, as a token may have come in two of them. Where several choices come
    `interleaved`, each delta stands alone: it is a token or more.
    """

    def __init__(self, *, interleaved: bool = False) -> None:
        self._interleaved = interleaved
        self._fresh: list[str] = []  # as they came
        self._run: list[str] = []  # deltas that follow each other, up to a hundred in a piece
        self._texts: list[str] = []
        self._size = 0
        self._beyond = 0

    def add(self, texts: Sequence[str], size: int) -> None:
        """The texts of one event, in order, and the bytes that brought them."""
        fresh = self._fresh
        fresh.extend(texts)
        if len(fresh) > _MAX_FRESH or size > _LARGE:
            self._sort()

    def gather(self) -> None:
        """The stream has ended. Call it before `tokens`."""
        self._sort()
        self._end_run()

    def tokens(self, count: CountTexts) -> int:
        """Tokens of everything seen. Changes nothing."""
        tokens = count(self._texts)
        return tokens + -(-self._beyond * tokens // max(sum(map(len, self._texts)), 1))

    def _sort(self) -> None:
        piece: list[str] = []
        for text in self._fresh:
            apart = self._interleaved or isinstance(text, CalledName)
            self._size += len(text) + (_APART if apart else 0)
            if self._size > MAX_TEXT:
                self._beyond += len(text)
            elif apart:
                self._run += piece
                piece.clear()
                self._end_run()
                self._texts.append(text)
            else:
                piece.append(text)
        if piece:
            self._run.append("".join(piece))
        self._fresh.clear()

    def _end_run(self) -> None:
        if run := "".join(self._run):
            self._texts.append(run)
        self._run.clear()
