"""What was told of thresholds: each event is claimed once, under an id that all its repeats bear, and then accepted."""

import secrets
from datetime import datetime

import msgspec

from proxy.budgets import Account
from proxy.store import keys
from proxy.store.reads import Reads

# KEYS 1 what was told of an account; ARGV 1 the event, 2 the claim as JSON, 3 when all of it expires (empty: never).
# Whoever comes first claims it. Returns the claim that holds.
_CLAIM = """\
local is_new = redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 1
if is_new and ARGV[3] ~= '' then redis.call('EXPIREAT', KEYS[1], ARGV[3]) end
return redis.call('HGET', KEYS[1], ARGV[1])
"""


class Told(msgspec.Struct, frozen=True):
    """An event and what became of it. `accepted`: its receiver has said so; it is never sent again."""

    id: str
    claimed: datetime
    accepted: datetime | None = None


_decode = msgspec.json.Decoder(Told).decode


async def claim(reads: Reads, account: Account, event: str, at: datetime) -> Told:
    """The event of this account, claimed now if it was not. `event` names it within the account."""
    new = msgspec.json.encode(Told(secrets.token_hex(16), at))
    expires = "" if account.ends_at is None else str(account.ends_at + keys.KEPT_AFTER_PERIOD_SECONDS)
    return _decode(await reads.call("EVAL", _CLAIM, 1, keys.told(account.key), event, new, expires))


async def accept(reads: Reads, account: Account, event: str, told: Told, at: datetime) -> None:
    """Its receiver has it."""
    accepted = msgspec.json.encode(msgspec.structs.replace(told, accepted=at))
    await reads.call("HSET", keys.told(account.key), event, accepted)
