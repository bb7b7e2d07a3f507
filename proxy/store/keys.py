"""Every key that taximeter has in the store. One hash tag: in a cluster all of them live on one shard,

because a script changes budgets, sums, ledger and the writer's number at once.
"""

import secrets
from datetime import date

from proxy.budgets import account

PREFIX = "{taximeter}:"

COMMITTED = PREFIX + "committed:"
"""+ account key: string, spent + held in nanos. Lives until 90 days past the end of the period."""
HELD = PREFIX + "held:"
"""+ account key: string, what is set aside in nanos. Lives as long as `committed`."""
OWNERS = PREFIX + "owners:"
"""+ series: set, the identities of the owners that have an account in it. Lives as long as these."""
SUMS = PREFIX + "sums:"
"""+ UTC day: hash, the day's sums. Field: JSON array of the SumKey, then the quantity's name. Lives for ever."""
LEDGER = PREFIX + "ledger"
"""Stream, field `e`: a ledger entry as JSON."""
ASIDE = PREFIX + "aside"
"""Stream of what no script could apply. Fields: `e`, the record as JSON, and `why`."""
BACKGROUND = PREFIX + "background:"
"""+ upstream id of a response: hash, entry id → a Parked as JSON, and on the next line its hold; or, where it was
presumed, `!` and the charge that takes that back. Until it is charged."""
PARKED = PREFIX + "parked"
"""Sorted set of `entry-id background-key`; score: the Unix second at which a sweeper sees to it."""
WRITERS = PREFIX + "writers"
"""Set: the names of the writers that may hold something."""
BIRTH = PREFIX + "birth"
"""String, made by whoever finds none: another one, or none, and the store was wiped."""
DURABLE = PREFIX + "durable"
"""String, written so that its writer can wait until everything before it is on disk."""
CALLER_KEYS = PREFIX + "caller-keys"
"""Hash: the first 12 hex digits of a taximeter key's SHA-256 → its CallerKey as JSON."""
RAISED = PREFIX + "raised"
"""Hash: budget, or budget/owner → a raised limit as JSON, until when it holds in it."""
REVISION = PREFIX + "revision"
"""String: another one after each change of caller keys or raises. Who remembers one of them looks here."""

TOLD = PREFIX + "told:"
"""+ account key: hash, threshold/limit/receiver → a Told as JSON. Lives as long as `committed`."""

LEASE = PREFIX + "lease:"
"""+ job: string, who runs it now. Ends by itself when it is not kept up."""

TRIMMED = PREFIX + "trimmed"
"""Hash: `place` of the last line that was folded into checkpoint sums, `lines` so far."""
TRIMMED_ACCOUNT = PREFIX + "trimmed-account:"
"""+ account key: string, nanos that folded lines moved. Lives as long as `committed`."""
TRIMMED_SUMS = PREFIX + "trimmed-sums:"
"""+ UTC day: hash, what folded lines are in the day's sums; fields as there. Lives for ever."""
READING = PREFIX + "reading"
"""String, there while somebody reads the whole ledger: nothing is trimmed then. Ends by itself."""
REPRICE = PREFIX + "reprice"
"""Hash: `token` of whoever re-prices the ledger now, `number` of the last batch. Ends by itself."""
AUDIT = PREFIX + "audit"
"""Stream, field `e`: what somebody changed, as JSON: `at`, `who`, `action`, and what belongs to the action."""
BACKFILLED = PREFIX + "backfilled"
"""Hash: series of a budget with backfill → the place in the ledger up to which lines were counted for it."""
OPENING = PREFIX + "opening"
"""Hash: account key → nanos that a new budget began with, from entries that do not name it."""

KEPT_AFTER_PERIOD_SECONDS = account.KEPT_AFTER_PERIOD_SECONDS
WRITER_KEPT_SECONDS = 90 * 86_400  # after its last beat: as long as anything could still be sent again


def writer(name: str) -> str:
    """Hash of a writer: `token` of its newest connection, `number` of its last record that was applied, `beat` that

    grows while it lives, and for people the `host` where it runs.
    """
    return f"{PREFIX}writer:{name}"


def holds(name: str) -> str:
    """Hash of a writer: entry id → lines of `nanos account-key` as they were set aside, an empty line, an Opened."""
    return f"{PREFIX}holds:{name}"


def presumed(name: str) -> str:
    """Hash of a writer: entry id → the charge (MessagePack) that takes back what a sweeper presumed of it."""
    return f"{PREFIX}presumed:{name}"


def background(upstream_id: str) -> str:
    return BACKGROUND + upstream_id


def lease(job: str) -> str:
    return LEASE + job


def told(account_key: str) -> str:
    return TOLD + account_key


def new_revision() -> str:
    """By chance: after a roll-back of the store a number could come twice."""
    return secrets.token_hex(8)


def committed(account_key: str) -> str:
    return COMMITTED + account_key


def held(account_key: str) -> str:
    return HELD + account_key


def owners(series: str) -> str:
    return OWNERS + series


def sums(day: date) -> str:
    return SUMS + day.isoformat()
