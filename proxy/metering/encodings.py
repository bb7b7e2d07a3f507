"""Which encoding a model counts in, and the encodings themselves, built from the tables shipped in `tables/`.

Nothing is ever downloaded. A table is read when the first text is counted with it: reading one takes most of a second
and some 40 to 80 MB, and a proxy whose upstreams say their usage never needs one.
"""

import base64
import lzma
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final, Literal

from rates.model_name import parse_model_name

if TYPE_CHECKING:
    import tiktoken

EncodingName = Literal["o200k_base", "cl100k_base"]
Encode = Callable[[str], Sequence[int]]

TABLES: Final = Path(__file__).parent / "tables"

# What splits a text before its parts are encoded: tiktoken's own patterns (tiktoken_ext/openai_public.py, MIT), which
# cannot be asked for without downloading a table. A test compares.
PATTERNS: Final[dict[EncodingName, str]] = {
    "o200k_base": (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "cl100k_base": (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"
        r"|\s+(?!\S)|\s"
    ),
}

_END = r"(?![0-9a-z])"
_O200K = re.compile(
    rf"(?:gpt-4o|gpt-4\.1|gpt-4\.5|gpt-5|gpt-6|gpt-oss|chatgpt-4o|o1|o3|o4|codex-mini|computer-use-preview){_END}"
)
_CL100K = re.compile(
    rf"(?:gpt-4(?!\.)|gpt-3\.?5|text-embedding-3|text-embedding-ada-002|davinci-002|babbage-002){_END}"
)


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """How one model's tokens are counted. `assumed`: nobody says that it counts so, it is only the likeliest."""

    base: str
    """The model, undated and without its gateway: `gpt-4o-mini`. Empty when it is not known."""
    encoding: EncodingName
    assumed: bool
    encode: Encode
    """Text to tokens. The first call of an encoding reads its table."""


def tokenizer_for(model: str | None) -> Tokenizer:
    """Chosen from the parsed base, so that a fine-tune counts as its base does. Total; reads no table."""
    base = parse_model_name(model).base_model.rpartition("/")[2] if model else ""
    if _O200K.match(base):
        return Tokenizer(base, "o200k_base", assumed=False, encode=_encode_o200k)
    if _CL100K.match(base):
        return Tokenizer(base, "cl100k_base", assumed=False, encode=_encode_cl100k)
    return Tokenizer(base, "o200k_base", assumed=True, encode=_encode_o200k)


def _encode_o200k(text: str) -> Sequence[int]:
    return load("o200k_base").encode_ordinary(text)


def _encode_cl100k(text: str) -> Sequence[int]:
    return load("cl100k_base").encode_ordinary(text)


_loading = Lock()
_loaded: dict[EncodingName, "tiktoken.Encoding"] = {}


def load(name: EncodingName) -> "tiktoken.Encoding":
    """The encoding, read once whoever asks at once. Takes most of a second: never call it on an event loop."""
    encoding = _loaded.get(name)
    if encoding is None:
        with _loading:
            encoding = _loaded.get(name)
            if encoding is None:
                encoding = _loaded[name] = _build(name)
    return encoding


def _build(name: EncodingName) -> "tiktoken.Encoding":
    import tiktoken  # noqa: PLC0415 - 20 ms that no start has to wait for

    # Special tokens are left out: text that looks like one is text here.
    return tiktoken.Encoding(name, pat_str=PATTERNS[name], mergeable_ranks=read_ranks(name), special_tokens={})


def read_ranks(name: EncodingName) -> dict[bytes, int]:
    """A table: a line for each token, its bytes in base64 and its rank."""
    table = lzma.decompress((TABLES / f"{name}.tiktoken.xz").read_bytes())
    rows = (row.partition(b" ") for row in table.splitlines())
    return {base64.b64decode(token): int(rank) for token, _, rank in rows}
