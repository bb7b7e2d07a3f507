"""The grammar of model ids: what an id says about its base, its fine-tune, its checkpoint and who serves it.

    [gateway/][provider/] ft:<base>:<organisation>:<suffix, may be empty>:<id>[:ckpt-step-N][:variant]
    [gateway/][provider/] <base>.ft-<32 hex>[:variant]                          Azure's fine-tunes
    [gateway/][provider/] ftchkpt-<hex>                                         Azure's checkpoints: no base in the id
    [gateway/][provider/] <base>:ft-<organisation>-<date and time>              fine-tunes before August 2023
    [gateway/][provider/] <base>[-<snapshot>][:variant]                         everything else

Invariants: parsing is total (an unknown id is simply its own base); `ft:` is tested before anything is split;
an `ft:` id is split from the left, so nothing in an organisation or a suffix is ever read as a base; a prefix that
is not known is part of the base; case is folded in the base only, and only A to Z.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from string import ascii_lowercase, ascii_uppercase
from typing import Literal

PROVIDERS = ("openai", "azure")
"""Prefixes that say who serves the model. A provider of a user's own card file needs no prefix: it is passed apart."""
GATEWAYS = ("openrouter", "litellm_proxy", "vercel_ai_gateway")
"""Prefixes of a prefix: `openrouter/openai/gpt-4o`. Alone they select nothing (`openrouter/auto` is a model)."""

Form = Literal["plain", "ft", "azure", "azure-checkpoint", "legacy"]

_FOLD = str.maketrans(ascii_uppercase, ascii_lowercase)
_PREFIX = re.compile(rf"((?:(?:{'|'.join(GATEWAYS)})/)?({'|'.join(PROVIDERS)}))/(.+)", re.DOTALL)
_CHECKPOINT = re.compile(r"ckpt-step-[0-9]+")
_AZURE = re.compile(r"(.+)\.ft-([0-9a-fA-F]{32})", re.DOTALL)
_AZURE_CHECKPOINT = re.compile(r"ftchkpt-[0-9a-fA-F]+")
_LEGACY = re.compile(r"ft-(.+)-([0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9]{2}-[0-9]{2}-[0-9]{2})", re.DOTALL)
_DATED = re.compile(r"(.+)-([0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01]))", re.DOTALL)
_ANY_DATE = re.compile(r"(.+)[-@]20[0-9]{2}(-?)(?:0[1-9]|1[0-2])\2(?:0[1-9]|[12][0-9]|3[01])", re.DOTALL)
# Four digits are a date only in these families; elsewhere they may be anything (`babbage-002`, `phi-3-0425`).
_SHORT_DATED = re.compile(
    r"(gpt-4|gpt-4-32k|gpt-3\.?5-turbo|gpt-3\.?5-turbo-16k|gpt-3\.?5-turbo-instruct)"
    r"-((?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01]))"
)


@dataclass(frozen=True, slots=True)
class ModelName:
    """A model id, taken apart. `text` is the id as given; `canonical` is it without prefix and with its base folded."""

    text: str
    canonical: str
    prefix: str | None
    provider: str | None
    """Who must serve it, where the id says so: by its prefix or by Azure's form."""
    base: str
    """What was trained or asked for, with its snapshot if it has one: `gpt-4o-mini-2024-07-18`."""
    base_model: str
    """The base without its snapshot: `gpt-4o-mini`."""
    snapshot: str | None
    form: Form = "plain"
    organisation: str | None = None
    suffix: str | None = None
    id: str | None = None
    checkpoint: str | None = None
    variant: str | None = None

    def __str__(self) -> str:
        return self.text

    @property
    def fine_tuned(self) -> bool:
        return self.form != "plain"

    @property
    def whole(self) -> str:
        """The canonical id with its prefix: what a gateway calls the model (`openai/gpt-oss-120b` at Groq)."""
        return self.canonical if self.prefix is None else f"{self.prefix}/{self.canonical}"

    @property
    def without_checkpoint(self) -> str:
        """The canonical id of the fine-tune that a checkpoint belongs to."""
        if self.form != "ft" or self.checkpoint is None or self.variant is not None:
            return self.canonical
        return self.canonical.removesuffix(f":{self.checkpoint}")


def parse_model_name(text: str) -> ModelName:
    """Take an id apart. Never raises."""
    # Ids of a reasonable length are remembered: a hot path asks for the same few again and again.
    return _remembered(text) if len(text) <= 256 else _parse(text)


def _parse(text: str) -> ModelName:
    prefix: str | None = None
    provider: str | None = None
    rest = text
    if not text.startswith("ft:") and (match := _PREFIX.fullmatch(text)):
        prefix, provider, rest = match.groups()
    if rest.startswith("ft:"):
        return _fine_tune(text, prefix, provider, rest)

    head, colon, tail = rest.partition(":")
    variant = tail if colon else None
    if _AZURE_CHECKPOINT.fullmatch(head):
        return ModelName(
            text,
            canonical=rest,
            prefix=prefix,
            provider=provider or "azure",
            base=head,
            base_model=head,
            snapshot=None,
            form="azure-checkpoint",
            checkpoint=head,
            variant=variant,
        )
    if match := _AZURE.fullmatch(head):
        base = match[1].translate(_FOLD)
        base_model, snapshot = _undated(base)
        return ModelName(
            text,
            canonical=base + rest[len(base) :],
            prefix=prefix,
            provider=provider or "azure",
            base=base,
            base_model=base_model,
            snapshot=snapshot,
            form="azure",
            id=match[2],
            variant=variant,
        )
    base = head.translate(_FOLD)
    base_model, snapshot = _undated(base)
    legacy = _LEGACY.fullmatch(tail)
    return ModelName(
        text,
        canonical=base + rest[len(base) :],
        prefix=prefix,
        provider=provider,
        base=base,
        base_model=base_model,
        snapshot=snapshot,
        form="legacy" if legacy else "plain",
        organisation=legacy[1] if legacy else None,  # with its suffix: nothing tells the two apart
        id=legacy[2] if legacy else None,
        variant=None if legacy else variant,
    )


_remembered = lru_cache(maxsize=4096)(_parse)


def _fine_tune(text: str, prefix: str | None, provider: str | None, rest: str) -> ModelName:
    """`ft:…`, split from the left. A shortened id (`ft:gpt-4o-mini`) is still a fine-tune of its base."""
    written, *fields = rest[3:].split(":")
    base = written.translate(_FOLD)
    base_model, snapshot = _undated(base)
    organisation = fields[0] if fields else None
    suffix: str | None = None
    identity: str | None = None
    checkpoint: str | None = None
    variant: str | None = None
    if len(fields) == 2:
        identity = fields[1]
    elif len(fields) > 2:
        suffix, identity = fields[1], fields[2]
        tail = fields[3:]
        if tail and _CHECKPOINT.fullmatch(tail[0]):
            checkpoint = tail.pop(0)
        variant = ":".join(tail) if tail else None
    return ModelName(
        text,
        canonical=f"ft:{base}{rest[3 + len(written) :]}",
        prefix=prefix,
        provider=provider,
        base=base,
        base_model=base_model,
        snapshot=snapshot,
        form="ft",
        organisation=organisation,
        suffix=suffix,
        id=identity,
        checkpoint=checkpoint,
        variant=variant,
    )


def without_date(canonical: str) -> str | None:
    """An id without the date at its end, in any of the ways that vendors write one; None when it has none."""
    match = _ANY_DATE.fullmatch(canonical)
    return match[1] if match else None


def _undated(base: str) -> tuple[str, str | None]:
    match = _DATED.fullmatch(base) or _SHORT_DATED.fullmatch(base)
    return (match[1], match[2]) if match else (base, None)
