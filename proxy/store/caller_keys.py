"""Taximeter's own keys: shown once, kept as a digest, found by the beginning of it and compared in constant time."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from proxy.config.budgets import owner_problem
from proxy.errors import StoreRefused, UsageError
from proxy.store import keys
from proxy.store.reads import Reads

PREFIX = "tm-"
SECRET_BYTES = 32
ID_DIGITS = 12  # hex digits of the digest that name a key in lists and when it is revoked

# KEYS 1 the keys, 2 the revision; ARGV 1 an id, 2 what is kept, 3 a new revision. 0: another key has this id.
_CREATE = """\
local kept = redis.call('HGET', KEYS[1], ARGV[1])
if kept and kept ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('SET', KEYS[2], ARGV[3])
return 1
"""
# The same KEYS; ARGV 1 an id, 2 a new revision.
_REVOKE = "redis.call('HDEL', KEYS[1], ARGV[1]) redis.call('SET', KEYS[2], ARGV[2]) return 1"


class CallerKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a key after it was shown, as the store keeps it."""

    digest: str
    """SHA-256 of the key, in hex."""
    owner: str
    created: datetime
    expires: datetime | None = None
    models: tuple[str, ...] = ()
    """Globs: one of them must fit the model asked. None: every model is open to it."""

    @property
    def id(self) -> str:
        """How lists and people name it."""
        return self.digest[:ID_DIGITS]

    def is_expired(self, at: datetime) -> bool:
        return self.expires is not None and at >= self.expires


_decode = msgspec.json.Decoder(CallerKey).decode


def digest_of(key: str) -> str:
    """SHA-256 in hex. A key has 256 bits of chance in it, so a slow hash would protect nothing."""
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()


async def create(reads: Reads, owner: str, *, expires: datetime | None = None, models: Sequence[str] = ()) -> str:
    """A new key of this owner. Nobody can read it again."""
    problem = owner_problem(owner)
    if problem:
        raise UsageError(f"owner {owner!r}: {problem}")
    created = datetime.now(UTC).replace(microsecond=0)
    for _ in range(3):  # two keys with the same 48 bits are not to be expected once
        key = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        kept = CallerKey(digest=digest_of(key), owner=owner, created=created, expires=expires, models=tuple(models))
        if await _script(reads, _CREATE, kept.id, msgspec.json.encode(kept)):
            return key
    raise StoreRefused("no new key has an id of its own: the store's keys are not what taximeter wrote")


async def find(reads: Reads, digest: str) -> CallerKey | None:
    """The key with this digest; None when there is none. It may have expired."""
    kept = await reads.call("HGET", keys.CALLER_KEYS, digest[:ID_DIGITS])
    if kept is None:
        return None
    found = _decode(kept)
    return found if hmac.compare_digest(found.digest, digest) else None


async def listed(reads: Reads) -> list[CallerKey]:
    """All keys, the oldest first."""
    found = [_decode(kept) for kept in await reads.call("HVALS", keys.CALLER_KEYS)]
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
    await _script(reads, _REVOKE, matching[0].id)
    return matching[0]


async def _script(reads: Reads, source: str, *arguments: str | bytes) -> object:
    names = (keys.CALLER_KEYS, keys.REVISION)
    return await reads.call("EVAL", source, len(names), *names, *arguments, keys.new_revision())
