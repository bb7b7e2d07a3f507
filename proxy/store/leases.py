"""Leases: what one process at a time may do, over all processes on this store. A lease ends by itself in the store."""

from proxy.store import keys
from proxy.store.reads import Reads

# KEYS 1 the lease; ARGV 1 the holder, 2 milliseconds. Takes it when it is free and prolongs one's own: asked twice
# after a lost answer, it says the same.
_TAKE = """\
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_DROP = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


async def take(reads: Reads, name: str, holder: str, seconds: float) -> bool:
    """Whether it is the holder's now, for so many seconds from when this was asked at least."""
    return bool(await reads.call("EVAL", _TAKE, 1, keys.lease(name), holder, int(seconds * 1000)) == 1)


async def drop(reads: Reads, name: str, holder: str) -> None:
    """Give it up before its time, if it is still the holder's."""
    await reads.call("EVAL", _DROP, 1, keys.lease(name), holder)
