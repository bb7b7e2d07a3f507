"""A setting: a value and where it came from, so that a complaint can name the place, the value and the mend."""

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from proxy.errors import ConfigError

_SHOWN_LENGTH = 80
_SHOWN_BITS = 256  # above it Python may refuse to write an int as decimal text


@dataclass(frozen=True, slots=True)
class Setting:
    """`label` names the place (`taximeter.toml: listen`, `TAXIMETER_LISTEN`, `--listen`).

    Relative paths are relative to `base`. `as_text` is True for a flag or a variable, where a number comes as text.
    """

    value: object
    label: str
    base: Path
    as_text: bool = False

    def wrong(self, reason: str, *, shown: str | None = None) -> ConfigError:
        """The one form of a complaint: place = value: reason. `shown` replaces a value that holds a secret."""
        return ConfigError(f"{self.label} = {toml(self.value) if shown is None else shown}: {reason}")

    def part(self, value: object, name: str) -> "Setting":
        """An item of this setting: `rate_files[0]`, `models."alias"`."""
        return Setting(value, self.label + name, self.base, self.as_text)


def toml(value: object) -> str:
    """A value much as it was written, cut to a readable length."""
    match value:
        case bool():
            text = "true" if value else "false"
        case str():
            text = escaped(json.dumps(value, ensure_ascii=False))
        case int() if value.bit_length() > _SHOWN_BITS:
            text = "(a huge number)"
        case int() | Decimal():
            text = str(value)
        case list():
            text = "[" + ", ".join(toml(item) for item in value[:10]) + (", …" if len(value) > 10 else "") + "]"
        case dict():
            text = "(a table)"
        case _:
            text = str(value)  # a date or a time
    return text if len(text) <= _SHOWN_LENGTH else text[: _SHOWN_LENGTH - 1] + "…"


def escaped(text: str) -> str:
    """Text from outside, safe to show: control characters and direction marks as escapes."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a complaint about an unknown word: a suggestion, or nothing."""
    candidate = nearest(word, known)
    return "" if candidate is None else f'; did you mean "{candidate}"?'
