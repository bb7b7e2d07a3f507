"""Taximeter's own keys: shown once, kept as a digest."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from proxy.config.budgets import owner_problem
from proxy.errors import UsageError
from proxy.store import keys
from proxy.store.reads import Reads

PREFIX = "tm-"
SECRET_BYTES = 32
ID_DIGITS = 12  # hex digits of the digest that name a key in lists and when it is revoked


class _Kept(msgspec.Struct, frozen=True):
    owner: str
    created: datetime


@dataclass(frozen=True, slots=True)
class CallerKey:
    """What is known of a key after it was shown. The id is the beginning of its digest."""

    id: str
    digest: str
    owner: str
    created: datetime


def digest_of(key: str) -> str:
    """SHA-256 in hex. A key has 256 bits of chance in it, so a slow hash would protect nothing."""
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()


async def create(reads: Reads, owner: str) -> str:
    """A new key of this owner. Nobody can read it again."""
    problem = owner_problem(owner)
    if problem:
        raise UsageError(f"owner {owner!r}: {problem}")
    key = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    kept = msgspec.json.encode(_Kept(owner, datetime.now(UTC).replace(microsecond=0)))
    await reads.call("HSET", keys.CALLER_KEYS, digest_of(key), kept)
    return key


async def find(reads: Reads, digest: str) -> str | None:
    """The owner of the key with this digest; None when no such key is valid."""
    kept = await reads.call("HGET", keys.CALLER_KEYS, digest)
    return None if kept is None else msgspec.json.decode(kept, type=_Kept).owner


async def listed(reads: Reads) -> list[CallerKey]:
    """All keys, the oldest first."""
    fields = await reads.call("HGETALL", keys.CALLER_KEYS)
    found = []
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        digest, kept = name.decode(), msgspec.json.decode(value, type=_Kept)
        found.append(CallerKey(digest[:ID_DIGITS], digest, kept.owner, kept.created))
    return sorted(found, key=lambda key: (key.created, key.digest))


async def revoke(reads: Reads, which: str) -> CallerKey:
    """Take a key back, by its id (or more of its digest) or by the key itself. Returns what was revoked."""
    wanted = digest_of(which) if which.startswith(PREFIX) else which.lower()
    matching = [key for key in await listed(reads) if key.digest.startswith(wanted)] if len(wanted) >= 4 else []
    shown = f"{PREFIX}…" if which.startswith(PREFIX) else repr(which)
    if not matching:
        raise UsageError(f"no key {shown}; `taximeter keys list` shows the ids of all keys")
    if len(matching) > 1:
        raise UsageError(f"{len(matching)} keys begin with {shown}; give more of the id")
    await reads.call("HDEL", keys.CALLER_KEYS, matching[0].digest)
    return matching[0]
