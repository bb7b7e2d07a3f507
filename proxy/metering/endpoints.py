"""The one table of endpoints: what is metered, how its answers are read, and what everything is called.

To meter another endpoint, write its reader in `usage_readers` and give its row that reader.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from proxy.metering.reader import Reader
from proxy.metering.responses import RESPONSES
from proxy.metering.usage_readers import CHAT, COMPLETIONS, EMBEDDINGS


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`name` is from a closed set, so that it can be a label. Without a `reader` it is forwarded unread."""

    name: str
    reader: Reader | None = None
    output_limits: tuple[str, ...] = ()
    """The request's fields that bound the output; the largest one given holds."""
    writes: bool = True
    """There is output: tokens that are charged as such."""
    usage_on_request: bool = False
    """A stream says its usage only to who asks with `stream_options.include_usage`."""
    later: Reader | None = None
    """Reads what may be the end of a request that was accepted before, to be worked on in the background."""

    @property
    def metered(self) -> bool:
        return self.reader is not None


_ROWS: Final[dict[tuple[str, str], Endpoint]] = {
    ("POST", "chat/completions"): Endpoint(
        "chat/completions", CHAT, ("max_tokens", "max_completion_tokens"), usage_on_request=True
    ),
    ("POST", "completions"): Endpoint("completions", COMPLETIONS, ("max_tokens",), usage_on_request=True),
    ("POST", "responses"): Endpoint("responses", RESPONSES, ("max_output_tokens",)),
    ("POST", "embeddings"): Endpoint("embeddings", EMBEDDINGS, writes=False),
}
# Rows with an id in their path.
_PATTERNS: Final = (
    (("GET", re.compile(r"responses/[^/]+")), Endpoint("responses", later=RESPONSES)),
    (("POST", re.compile(r"responses/[^/]+/cancel")), Endpoint("responses", later=RESPONSES)),
)

# Forwarded and counted under these names; longer ones first where one begins with another.
_NAMES: Final = (
    "audio/speech",
    "audio/transcriptions",
    "audio/translations",
    "batches",
    "chat/completions",
    "completions",
    "containers",
    "conversations",
    "embeddings",
    "evals",
    "files",
    "fine_tuning",
    "images",
    "models",
    "moderations",
    "realtime",
    "responses/compact",
    "responses",
    "uploads",
    "vector_stores",
    "videos",
)
_UNMETERED: Final = {name: Endpoint(name) for name in _NAMES}
_OTHER: Final = Endpoint("other")


def endpoint_of(method: str, path: str) -> Endpoint:
    """The endpoint of a path relative to /v1/, without its query. Total: what nobody knows is called "other".

    Case, percent-escapes and empty segments are looked through: an upstream may do so as well, and what it answers
    has to be metered.
    """
    return _seen(method, path) if len(path) <= _LONGEST_SEEN else _look(method, path)


def _look(method: str, path: str) -> Endpoint:
    plain = "/".join(part for part in unquote(path).lower().split("/") if part and part != ".")
    row = _ROWS.get((method.upper(), plain))
    if row is not None:
        return row
    for (verb, pattern), endpoint in _PATTERNS:
        if verb == method.upper() and pattern.fullmatch(plain):
            return endpoint
    return next((_UNMETERED[name] for name in _NAMES if plain == name or plain.startswith(f"{name}/")), _OTHER)


# Nearly all requests have one of few paths; others must not fill the memory.
_LONGEST_SEEN: Final = 128
_seen = lru_cache(maxsize=512)(_look)
