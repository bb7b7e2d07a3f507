"""Globs on model names, and an index that finds the few of many that a name may fit.

`*` is any text, `?` any one character; nothing else is special (fnmatch has sets). A whole name fits, and case counts.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


def fits(pattern: str) -> Callable[[str], bool]:
    """Whether a name fits the pattern. Linear in the name, which comes from a caller and may be long."""
    if "?" in pattern:
        return _fits_with_blanks(pattern)
    first, *rest = pattern.split("*")
    if not rest:
        return pattern.__eq__
    *middle, last = rest

    def matches(name: str) -> bool:
        start, end = len(first), len(name) - len(last)
        if start > end or not name.startswith(first) or not name.endswith(last):
            return False
        for piece in middle:  # taken where it first fits: later places leave less room for the rest
            start = name.find(piece, start, end)
            if start < 0:
                return False
            start += len(piece)
        return True

    return matches


def _fits_with_blanks(pattern: str) -> Callable[[str], bool]:
    """The same as an expression. An atomic group never reconsiders, so that no power of stars is tried."""
    pieces = ["".join("." if char == "?" else re.escape(char) for char in piece) for piece in pattern.split("*")]
    first, *rest = pieces
    if rest:
        *middle, last = rest
        first += "".join(f"(?>.*?{piece})" for piece in middle if piece) + f".*{last}"
    fullmatch = re.compile(first, re.DOTALL).fullmatch
    return lambda name: fullmatch(name) is not None


def example(pattern: str) -> str:
    """A name that fits the pattern."""
    return pattern.replace("*", "").replace("?", "x")


class GlobIndex(Generic[T]):
    """Things under globs. `candidates` gives each whose glob may fit one of the names, once or more often.

    A thing is filed under the longest text without wildcards in its glob: what a name must begin with, end with or
    contain. One with wildcards alone is always a candidate.
    """

    def __init__(self) -> None:
        self._whole: defaultdict[str, list[T]] = defaultdict(list)
        self._first, self._last, self._inner = _Pieces[T](), _Pieces[T](), _Pieces[T]()
        self._any: list[T] = []

    def add(self, pattern: str, thing: T) -> None:
        if not set(pattern) & set("*?"):
            self._whole[pattern].append(thing)
            return
        *before, last = re.split(r"[*?]", pattern)
        first, *inner = before
        longest = max((first, last, *inner), key=len)
        if not longest:
            self._any.append(thing)
            return
        home = self._first if longest == first else self._last if longest == last else self._inner
        home.add(longest, thing)

    def candidates(self, names: Iterable[str]) -> Iterator[T]:
        yield from self._any
        for name in names:
            yield from self._whole.get(name, ())
            for length in self._first.lengths:
                yield from self._first.under(name[:length])
            for length in self._last.lengths:
                yield from self._last.under(name[-length:])
            for length in self._inner.lengths:
                for start in range(len(name) - length + 1):
                    yield from self._inner.under(name[start : start + length])


class _Pieces(Generic[T]):
    """Things by a text, and how long these texts are."""

    def __init__(self) -> None:
        self.lengths: set[int] = set()
        self._things: defaultdict[str, list[T]] = defaultdict(list)

    def add(self, text: str, thing: T) -> None:
        self.lengths.add(len(text))
        self._things[text].append(thing)

    def under(self, text: str) -> Iterable[T]:
        return self._things.get(text, ())
