"""Decoding what comes from outside: typed and partial, lenient where other parsers are, and never raising."""

import json
import math
from typing import TypeVar

import msgspec

_T = TypeVar("_T")

# Characters. Far above any real id (those of fine-tunes have under 100): longer names are noise.
LONGEST_NAME = 1024


def decode(decoder: "msgspec.json.Decoder[_T]", data: bytes) -> _T | None:
    """Decoded, or None. What msgspec refuses and other parsers take (NaN, lone surrogates) is mended first."""
    try:
        return decoder.decode(data)
    except (ValueError, RecursionError):
        pass
    try:
        return decoder.decode(_mended(data))
    except (ValueError, RecursionError):
        return None


def short_name(value: object) -> str | None:
    """A name that can be one: text, neither empty nor absurdly long."""
    return value if isinstance(value, str) and 0 < len(value) <= LONGEST_NAME else None


def _mended(data: bytes) -> bytes:
    """JSON with the numbers that are none (NaN, 1e999) as strings, so that they are seen and not believed."""
    value = json.loads(data.decode(errors="replace"), parse_constant=str, parse_float=_finite, strict=False)
    return json.dumps(value, allow_nan=False, ensure_ascii=False).encode(errors="replace")


def _finite(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else text
