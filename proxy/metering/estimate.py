"""Token counts without a tokenizer: for the size of a hold, and where there is no time or no way to count exactly."""

import re
from collections.abc import Callable, Iterable
from typing import Final

from rates.usage import MAX_QUANTITY

CountTexts = Callable[[Iterable[str]], int]
"""Counts what a model wrote: texts that stand apart from each other."""

# English prose has 4 to 5 characters a token, code and JSON about 3.
_PROMPT_BYTES_PER_TOKEN: Final = 3
_TEXT_CHARACTERS_PER_TOKEN: Final = 4
# The most that an image takes in tiles of 512 pixels: 85 + 8 * 170 (gpt-4o and gpt-4.1, 768 by 2048).
_TOKENS_PER_IMAGE: Final = 1445
# Audio: about 10 tokens a second; a second of MP3 at 64 kbit/s is 10,700 characters of base64, of WAV more.
AUDIO_CHARACTERS_PER_TOKEN = 1000

_BASE64: Final = rb"[A-Za-z0-9+/=\\_-]"
_DATA_URL: Final = re.compile(rb";base64," + _BASE64 + rb"*+")
_AUDIO: Final = re.compile(rb'"data"[ \t\n\r]*+:[ \t\n\r]*+"(' + _BASE64 + rb"{256,}+)")

_SEMICOLON, _BACKSLASH = b";"[0], b"\\"[0]
_ASCII: Final = bytes(range(0x80))
_ASCII_AND_CONTINUATION: Final = bytes(range(0xC0))
_ALL_BUT_FOUR_BYTE_LEADS: Final = bytes(range(0xF0))


def count_text(text: str) -> int:
    """Tokens of a text, roughly: an ASCII character is a quarter of one, any other character a whole one."""
    if not text:
        return 0
    if text.isascii():
        plain, other = len(text), 0
    else:
        plain = len(text.encode(errors="replace").translate(None, bytes(range(0x80, 0x100))))
        other = len(text) - plain
    return -(-plain // _TEXT_CHARACTERS_PER_TOKEN) + other


def count_texts(texts: Iterable[str]) -> int:
    """Tokens of what a model wrote, roughly."""
    return sum(count_text(text) for text in texts)


def count_prompt(body: bytes) -> int:
    r"""Tokens of a request's prompt, slightly high, from the bytes of its JSON body alone.

    3 ASCII bytes are a token, JSON's own punctuation included; a character beyond ASCII is one (an emoji three),
    written out or as \uXXXX. base64 is left out: a data URL counts as one large image, audio by its length.
    """
    tokens = 0
    if _SEMICOLON in body and b";base64," in body:  # a single byte is looked for fifty times as fast
        body, images = _DATA_URL.subn(b"", body)
        tokens += images * _TOKENS_PER_IMAGE
    if b'"data"' in body:
        parts = [len(found.group(1)) for found in _AUDIO.finditer(body)]
        body = _AUDIO.sub(b"", body)
        tokens += sum(parts) // AUDIO_CHARACTERS_PER_TOKEN
    escapes = body.count(b"\\u") if _BACKSLASH in body else 0
    plain = len(body)
    if not body.isascii():
        beyond = body.translate(None, _ASCII)
        plain -= len(beyond)
        leads = beyond.translate(None, _ASCII_AND_CONTINUATION)
        tokens += len(leads) + 2 * len(leads.translate(None, _ALL_BUT_FOUR_BYTE_LEADS))
    plain -= 6 * escapes
    if plain > 0:
        tokens += -(-plain // _PROMPT_BYTES_PER_TOKEN)
    tokens += escapes
    return min(MAX_QUANTITY, tokens)
