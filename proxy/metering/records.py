"""What metering gives away: what a request asked for, and what an attempt used.

Apart from who makes them: mypyc drops what makes a Struct what it is, so this module is never compiled.
"""

from typing import Literal

import msgspec

from rates.usage import Usage

ReadingStatus = Literal["reported", "estimated", "presumed", "failed", "pending"]


class RequestFacts(msgspec.Struct, frozen=True):
    """What was asked. A field that is missing, or is not what the API takes there, has its default."""

    model: str | None = None
    stream: bool = False
    include_usage: bool = False
    max_output_tokens: int | None = None
    """The most output that the request allows for one choice; None when it names no positive limit, 0 where none is."""
    n: int = 1
    """Choices in all: of a text completion `n` (or `best_of`) for each of its prompts."""
    service_tier: str | None = None
    prompt_tokens: int = 0
    """An estimate, slightly high; see `estimate.count_prompt`."""
    body_is_json: bool = False
    """The body is one JSON object, as far as it was looked at."""


class Reading(msgspec.Struct, frozen=True):
    """What an attempt used. `model` is the one that served it, if the reply named one."""

    status: ReadingStatus
    reason: str | None
    model: str | None
    usage: Usage
    service_tier: str | None
    upstream_id: str | None
    encoding: str | None = None
    """What its tokens were counted with here; None: they were not, or only roughly."""
    encoding_assumed: bool = False
    """Nobody says that the model counts with that encoding."""
