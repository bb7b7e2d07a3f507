"""Readers: each takes a Setting and returns a checked value, or raises ConfigError with the reason and the mend."""

import math
import re
from collections.abc import Collection
from decimal import Decimal
from pathlib import Path

from proxy.config.environment import home_dir
from proxy.config.records import Address
from proxy.config.sources import Setting, did_you_mean

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{1,18})?")


def text(setting: Setting) -> str:
    """A string that is not empty and holds nothing that would break a line, a header or a path."""
    value = setting.value
    if not isinstance(value, str):
        raise setting.wrong("must be text in quotes")
    if not value:
        raise setting.wrong("is empty; leave the key out to have the default")
    if not value.isprintable():
        raise setting.wrong("holds a control character or a byte that is not UTF-8")
    return value


def variable(setting: Setting) -> str:
    """The name of an environment variable that holds a secret."""
    value = text(setting)
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
        # Not shown: a key that was pasted here by mistake is the usual reason.
        raise setting.wrong("must be the NAME of an environment variable, not the key itself", shown='"…"')
    return value


def whole(setting: Setting, low: int, high: int) -> int:
    """An integer in [low, high]."""
    value = setting.value
    if setting.as_text and isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise setting.wrong("must be a whole number" + ("" if setting.as_text else " without quotes"))
    if not low <= value <= high:
        raise setting.wrong(f"must be from {low} to {high}")
    return value


def number(setting: Setting, low: float, high: float) -> float:
    """A number in [low, high]: seconds, mostly."""
    value = setting.value
    if setting.as_text and isinstance(value, str) and _NUMBER.fullmatch(value):
        value = Decimal(value)
    if not isinstance(value, int | Decimal) or isinstance(value, bool):
        raise setting.wrong("must be a number" + ("" if setting.as_text else " without quotes"))
    if not math.isfinite(value) or not low <= value <= high:
        raise setting.wrong(f"must be from {low} to {high}")
    return float(value)


def truth(setting: Setting) -> bool:
    value = setting.value
    if setting.as_text and value in ("true", "false"):
        return value == "true"
    if not isinstance(value, bool):
        raise setting.wrong("must be true or false, without quotes")
    return value


def one_of(setting: Setting, choices: Collection[str]) -> str:
    """One of a few words."""
    value = text(setting)
    if value not in choices:
        words = [f'"{choice}"' for choice in choices]
        listed = " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
        raise setting.wrong(f"must be {listed}{did_you_mean(value, choices)}")
    return value


def address(setting: Setting) -> Address:
    value = text(setting)
    try:
        return Address.parse(value)
    except ValueError as error:
        raise setting.wrong(str(error)) from None


def path(setting: Setting) -> Path:
    """An absolute path; a relative one is relative to the file it is written in (a flag's: to where it was typed)."""
    value = text(setting)
    if value == "~" or value.startswith("~/"):
        return home_dir() / value[2:]
    return setting.base / value


def items(setting: Setting) -> list[Setting]:
    """The items of an array, each with its own label."""
    if not isinstance(setting.value, list):
        raise setting.wrong('must be an array: write ["…"]')
    return [setting.part(item, f"[{position}]") for position, item in enumerate(setting.value)]


def text_table(setting: Setting) -> dict[str, str]:
    """A table whose keys and values are text."""
    if not isinstance(setting.value, dict):
        raise setting.wrong("must be a table")
    pairs = {}
    for key, value in setting.value.items():
        if not key or not key.isprintable():
            raise setting.part(value, f".{key!r}").wrong("the name is empty or holds a control character")
        pairs[key] = text(setting.part(value, f'."{key}"'))
    return pairs
