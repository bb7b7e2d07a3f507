"""On which line of a TOML file a key stands: the parser does not say, and a complaint without a line is half a one."""

import re

Path = tuple[str | int, ...]
"""Where a value stands: `("card", 3, "batch", "input")`. Tables of an array are counted from 0."""

_KEY = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_DOTTED = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_DOTTED})\s*\]\]?")
_ASSIGNMENT = re.compile(rf"\s*({_DOTTED})\s*=")


class Lines:
    """Finds the line of a path. A path that has no line of its own (in an inline table) has that of its parent."""

    def __init__(self, text: str) -> None:
        self._lines: dict[Path, int] = {}
        counts: dict[Path, int] = {}
        table: Path = ()
        fence = ""  # the quotes of a text over several lines, while inside one
        for number, line in enumerate(text.splitlines(), start=1):
            if fence:
                if fence in line:
                    fence = ""
                continue
            if header := _HEADER.match(line):
                table = self._table(_keys(header[2]), counts)
                if header[1] == "[[":
                    index = counts.get(table, 0)
                    counts[table] = index + 1
                    self._lines.setdefault(table, number)
                    table = (*table, index)
                self._lines.setdefault(table, number)
            elif assignment := _ASSIGNMENT.match(line):
                path = (*table, *_keys(assignment[1]))
                for length in range(len(table) + 1, len(path) + 1):
                    self._lines.setdefault(path[:length], number)
                for quotes in ('"""', "'''"):
                    if line.count(quotes) % 2:
                        fence = quotes

    @staticmethod
    def _table(keys: Path, counts: dict[Path, int]) -> Path:
        """`[card.batch]` belongs to the last `[[card]]`."""
        path: Path = ()
        for position, key in enumerate(keys):
            path = (*path, key)
            if position < len(keys) - 1 and path in counts:
                path = (*path, counts[path] - 1)
        return path

    def line_of(self, path: Path) -> int:
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)


def _keys(dotted: str) -> Path:
    return tuple(part.strip("\"'") for part in re.findall(_KEY, dotted))


class BareNumber:
    """A number without quotes, as it was written. Amounts are texts: a float would not be the amount."""

    def __init__(self, text: str) -> None:
        self.text = text
