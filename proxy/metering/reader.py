"""What a reply can say about itself, and what a Reader is: the seam between the meter and an endpoint's own shapes."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import msgspec

from rates.usage import Usage

BAD: Final = "bad"
"""Usage came, but is not believed."""

SaidUsage = Usage | Literal["bad"] | None
"""None: nothing was said."""


class CalledName(str):
    """A text that is the name of a function which the model calls: a call takes tokens beyond its text."""

    __slots__ = ()


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What one JSON reply, or one event of a stream, says. `usage` None: it says nothing about usage."""

    model: str | None
    upstream_id: str | None
    service_tier: str | None
    usage: SaidUsage
    error: bool
    """It has a member `error`, and that is not null."""
    failed: bool = False
    """It says of the whole reply that it failed."""
    unfinished: bool | None = None
    """The upstream has accepted the request and works on it after this reply; None: nothing is said of that."""
    background: bool | None = None
    """It says whether it was made in the background."""
    search_kind_unclear: bool = False
    """Searches are in its usage under the dearer of two kinds: it does not say which one they were."""

    # Of an event alone:
    without_choices: bool = False
    """No choice is in it (an empty list, null, or no such member)."""
    finishes: bool = False
    """It has usage, and a choice in it has its `finish_reason`."""
    ends: bool = False
    """The reply has come to its own end with it."""
    extra: bool = False
    """It is the event that `include_usage` adds: `choices` is an empty list and `usage` an object."""
    null_usage: bool = False
    """It has a member `usage`, and that is null."""


class PlainEvent(Protocol):
    """An event that may say nothing but text, as nearly all of a stream do: decoded once, for both."""

    usage: Any
    """What it says of usage, of whatever form: UNSET or None is nothing."""


@dataclass(frozen=True, slots=True)
class Reader:
    """`read_reply` is for a whole reply, `read_event` for the data of an event; None: that is no JSON object.

    `text_of_reply` and `text_of_event` give the generated text for an estimate; `text_of_part` finds what it can in a
    reply that is cut off. `plain_event` raises ValueError or RecursionError for what is not of the usual form;
    `plain_texts` finds in it what `text_of_event` does; None: it says more than text, and has to be read.
    """

    read_reply: Callable[[bytes], Said | None]
    read_event: Callable[[bytes], Said | None]
    text_of_reply: Callable[[bytes], Iterable[str]]
    text_of_event: Callable[[bytes], Iterable[str]]
    text_of_part: Callable[[bytes], Iterable[str]]
    plain_event: Callable[[bytes], PlainEvent]
    plain_texts: Callable[[Any], Sequence[str] | None]
