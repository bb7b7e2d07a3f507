"""The text that a stream has brought, kept for the case that no usage comes: almost every stream ends with its usage,
and then this was never needed. It is kept as small as it is, and counted at the end.
"""

from collections.abc import Iterable

from proxy.metering.estimate import CountTexts
from proxy.metering.reader import CalledName

MAX_TEXT = 4 * 1024 * 1024
"""Characters. What comes beyond them is not kept: it counts like what was kept, by its length."""
# What a text costs that is kept by itself, in characters.
_APART = 64
# Deltas kept apart from each other before they are joined: each takes 60 bytes for its 5 characters.
_MAX_FRESH = 256


class SeenText:
    """Deltas that follow each other are one text, as a token may have come in two of them. Where several choices come
    `interleaved`, each delta stands alone: it is a token or more.
    """

    def __init__(self, *, interleaved: bool = False) -> None:
        self._interleaved = interleaved
        self._fresh: list[str] = []  # deltas, many and small
        self._run: list[str] = []  # deltas that follow each other, some hundred in a piece
        self._texts: list[str] = []
        self._size = 0
        self._kept = 0
        self._beyond = 0

    def add(self, texts: Iterable[str]) -> None:
        """The texts of one event, in order."""
        for text in texts:
            apart = self._interleaved or type(text) is CalledName
            length = len(text)
            self._size += length + _APART if apart else length
            if self._size > MAX_TEXT:
                self._beyond += length
                continue
            self._kept += length
            if apart:
                self.gather()
                self._texts.append(text)
            else:
                fresh = self._fresh
                fresh.append(text)
                if len(fresh) > _MAX_FRESH:
                    self._run.append("".join(fresh))
                    fresh.clear()

    def gather(self) -> None:
        """No delta to come belongs to those before. Call it at the end, before `tokens`."""
        if run := "".join((*self._run, *self._fresh)):
            self._texts.append(run)
        self._run.clear()
        self._fresh.clear()

    def tokens(self, count: CountTexts) -> int:
        """Tokens of everything seen. Changes nothing."""
        tokens = count(self._texts)
        return tokens + -(-self._beyond * tokens // max(self._kept, 1))
