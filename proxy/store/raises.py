"""Raised limits, as people set them for a time; and the audit stream, where that is written down."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from proxy.budgets import Raise
from proxy.errors import StoreRefused
from proxy.store import keys
from proxy.store.reads import Reads
from rates.money import usd_text

# KEYS 1 the raises, 2 the audit stream, 3 the revision
# ARGV 1 the field, 2 the raise as JSON, 3 its audit record as JSON, 4 a new revision, then fields that have expired
# Asked twice after a lost answer, it is written down once.
_RAISE = """\
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then return 0 end
for i = 5, #ARGV do redis.call('HDEL', KEYS[1], ARGV[i]) end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('XADD', KEYS[2], '*', 'e', ARGV[3])
redis.call('SET', KEYS[3], ARGV[4])
return 1
"""


class _Kept(msgspec.Struct, frozen=True):
    budget: str
    owner: str | None
    limit_nanos: int
    until: datetime
    who: str
    why: str
    at: datetime


_decode = msgspec.json.Decoder(_Kept).decode


async def write(reads: Reads, raised: Raise, *, before: int, now: datetime) -> None:
    """From now on the budget has this limit, until the raise ends. `before`: the limit that held so far, in nanos.

    An earlier raise of the same budget (and owner) is replaced; those that have ended are cleared away.
    """
    kept = _Kept(raised.budget, raised.owner, raised.limit, raised.until, who=raised.who, why=raised.why, at=raised.at)
    audit: dict[str, Any] = {
        "at": raised.at,
        "who": raised.who,
        "action": "raise",
        "budget": raised.budget,
        "owner": raised.owner,
        "from_usd": usd_text(before),
        "to_usd": usd_text(raised.limit),
        "until": raised.until,
        "why": raised.why,
    }
    field = _field(raised.budget, raised.owner)
    ended = [_field(each.budget, each.owner) for each in await read(reads) if each.until <= now]
    names = (keys.RAISED, keys.AUDIT, keys.REVISION)
    records = (msgspec.json.encode(kept), msgspec.json.encode(audit))
    await reads.call("EVAL", _RAISE, len(names), *names, field, *records, keys.new_revision(), *ended)


async def note(reads: Reads, record: Mapping[str, object]) -> None:
    """Write down in the audit stream what somebody did."""
    await reads.call("XADD", keys.AUDIT, "*", "e", msgspec.json.encode(record))


async def read(reads: Reads) -> list[Raise]:
    """All that were set, those that have ended too."""
    try:
        found = [_decode(value) for value in await reads.call("HVALS", keys.RAISED)]
    except msgspec.DecodeError as error:
        raise StoreRefused(f"the store's raised limits are not what taximeter wrote: {error}") from None
    return [
        Raise(
            budget=kept.budget,
            owner=kept.owner,
            limit=kept.limit_nanos,
            until=kept.until,
            who=kept.who,
            why=kept.why,
            at=kept.at,
        )
        for kept in found
    ]


def _field(budget: str, owner: str | None) -> str:
    return budget if owner is None else f"{budget}/{owner}"  # neither name holds a slash
