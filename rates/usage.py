"""Usage: disjoint billable quantities. Every token and every call is in exactly one of them."""

from collections.abc import Mapping
from typing import cast

import msgspec
from msgspec import to_builtins as _without_zeros

MAX_QUANTITY = 10**9
"""A reading above this is absurd (no request has a billion tokens): it is not believed."""


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Quantities of one request. Units: tokens, but for `*_calls` and `*_sessions`, which are counted in pieces.

    The API reports cached, cache-write, audio and image tokens INSIDE the input tokens, and reasoning tokens
    INSIDE the output tokens; here `input` and `output` are what remains after the parts were taken out
    (reasoning stays in `output`: it has the same rate).
    """

    input: int = 0
    cached_input: int = 0
    cache_write: int = 0
    cache_write_12h: int = 0
    audio_input: int = 0
    cached_audio_input: int = 0
    image_input: int = 0
    cached_image_input: int = 0
    output: int = 0
    audio_output: int = 0
    image_output: int = 0
    web_search_calls: int = 0
    web_search_preview_calls: int = 0
    unknown_tool_calls: int = 0
    """Calls whose price cannot be told from the reply. No shipped card prices them: the whole then has no price."""
    file_search_calls: int = 0
    code_interpreter_1gb_sessions: int = 0
    code_interpreter_4gb_sessions: int = 0
    code_interpreter_16gb_sessions: int = 0
    code_interpreter_64gb_sessions: int = 0

    def items(self) -> list[tuple[str, int]]:
        """The quantities that are not zero, in the order above."""
        return list(self.as_dict().items())

    @classmethod
    def of(cls, quantities: Mapping[str, int]) -> "Usage":
        """From {kind: quantity}. Raises ValueError for a kind that does not exist or a quantity out of range."""
        for kind, quantity in quantities.items():
            if kind not in KINDS:
                raise ValueError(f"unknown kind of usage {kind!r}")
            if not 0 <= quantity <= MAX_QUANTITY:
                raise ValueError(f"{kind} of {quantity} is not between 0 and {MAX_QUANTITY}")
        return cls(**quantities)

    def as_dict(self) -> dict[str, int]:
        """Likewise, as a dict of the caller's own."""
        return cast("dict[str, int]", _without_zeros(self))


KINDS: tuple[str, ...] = Usage.__struct_fields__
PROMPT_KINDS = frozenset(kind for kind in KINDS if kind.endswith("input") or kind.startswith("cache_write"))
"""The kinds whose sum is the prompt: what a long-context threshold looks at."""
