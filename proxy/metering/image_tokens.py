"""What an image counts: by its size and the model, as OpenAI's guide "Images and vision" says it.

Older models scale an image into a square of 2048, then to a shorter side of 768, and count tiles of 512 pixels. Smaller
and newer ones count patches of 32 pixels, at most 1536, times a factor of the model's own.
"""

import base64
import binascii
import math
import re
from collections.abc import Callable
from dataclasses import dataclass

ASSUMED_SIZE = (1024, 1024)
"""Of an image whose size cannot be read: a URL that would have to be fetched, a format that is not known."""
# Characters of base64. A JPEG's size stands after its metadata, seldom this far into it.
_HEAD = 256 * 1024
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Tiles:
    base: int
    tile: int

    def tokens(self, width: int, height: int, *, low: bool) -> int:
        if low:
            return self.base
        scale = min(1.0, 2048 / max(width, height))
        scale *= min(1.0, 768 / (min(width, height) * scale))
        return self.base + self.tile * math.ceil(width * scale / 512) * math.ceil(height * scale / 512)


@dataclass(frozen=True, slots=True)
class _Patches:
    factor: float

    def tokens(self, width: int, height: int, *, low: bool) -> int:
        most = 256 if low else 1536  # low: what fits in 512 by 512 (assumed: the guide gives it for tiles only)
        across, down = width / 32, height / 32
        if math.ceil(across) * math.ceil(down) > most:
            # Scaled down until they fit, and then to whole patches along the side that is cut more.
            scale = math.sqrt(most / (across * down))
            scale *= min(max(math.floor(side * scale), 1) / (side * scale) for side in (across, down))
            across, down = (max(side * scale - 1e-9, 1e-9) for side in (across, down))
        return math.ceil(min(math.ceil(across) * math.ceil(down), most) * self.factor)


# The first that matches. A model that nobody has listed counts as gpt-4o.
_RULES: tuple[tuple[re.Pattern[str], _Tiles | _Patches], ...] = tuple(
    (re.compile(pattern), rule)
    for pattern, rule in (
        (r"gpt-4o-mini", _Tiles(2833, 5667)),
        (r"gpt-4\.1-mini|gpt-5-mini", _Patches(1.62)),
        (r"gpt-4\.1-nano|gpt-5-nano", _Patches(2.46)),
        (r"o4-mini", _Patches(1.72)),
        (r"gpt-5", _Tiles(70, 140)),
        (r"o1|o3", _Tiles(75, 150)),
        (r"computer-use-preview", _Tiles(65, 129)),
        (r"", _Tiles(85, 170)),
    )
)


def image_tokens(base: str, url: object, detail: object) -> int:
    """Tokens of an image given by its URL. Total: what is not a URL counts as an image of the assumed size."""
    rule = next(rule for pattern, rule in _RULES if pattern.match(base))
    width, height = (size_of(url) if isinstance(url, str) else None) or ASSUMED_SIZE
    return rule.tokens(width, height, low=detail == "low")


def size_of(url: str) -> tuple[int, int] | None:
    """(width, height) in the head of a data: URL's PNG, JPEG, WebP or GIF. Nothing is decoded but that head."""
    match = _DATA_URL.match(url)
    if match is None:
        return None
    encoded = url[match.end() : match.end() + _HEAD]
    try:
        data = base64.b64decode(encoded[: len(encoded) // 4 * 4])
    except (binascii.Error, ValueError):
        return None
    size = next((read(data) for magic, read in _FORMATS if data.startswith(magic)), None)
    return size if size is not None and size[0] > 0 and size[1] > 0 else None


_Size = tuple[int, int] | None


def _png(data: bytes) -> _Size:
    if len(data) < 24 or data[12:16] != b"IHDR":
        return None
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def _gif(data: bytes) -> _Size:
    if len(data) < 10:
        return None
    return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")


def _jpeg(data: bytes) -> _Size:
    """The first frame header (SOF0 to SOF15 without DHT, JPG and DAC), segment by segment."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        at += 2 + max(int.from_bytes(data[at + 2 : at + 4], "big"), 2)
    return None


def _webp(data: bytes) -> _Size:
    if len(data) < 30 or data[8:12] != b"WEBP":
        return None
    match data[12:16]:
        case b"VP8X":
            return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
        case b"VP8L":
            bits = int.from_bytes(data[21:25], "little")
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        case b"VP8 ":
            return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
        case _:
            return None


_FORMATS: tuple[tuple[bytes, Callable[[bytes], _Size]], ...] = (
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"\xff\xd8", _jpeg),
    (b"GIF8", _gif),
    (b"RIFF", _webp),
)
