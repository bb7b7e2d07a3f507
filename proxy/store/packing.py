"""Entries, accounts and records as the scripts and the journal keep them."""

from collections.abc import Sequence

import msgspec

from proxy.budgets import Account
from proxy.ledger.entry import LedgerEntry
from proxy.ledger.opened import MovedAccount
from proxy.ledger.sums import SumKey, sum_key
from proxy.store import keys
from rates.money import Nanos

MAX_AMOUNT: Nanos = 10**16
"""Ten million dollars for one request. apply.lua keeps room for it below the end of an int64."""

_json = msgspec.json.Encoder().encode
pack = msgspec.msgpack.Encoder().encode


def charge_of(entry: LedgerEntry, accounts: Sequence[Account | MovedAccount]) -> tuple[object, ...]:
    """A charge as the script reads it."""
    nanos = entry.cost_nanos or 0
    quantities = ["requests", str(entry.requests)]
    for kind, quantity in entry.usage.items():
        quantities += (kind, str(quantity))
    if nanos:
        quantities += ("nanos", str(nanos))
    moves = nanos or entry.status == "unpriced"  # what has no price yet may get one: its accounts must be there
    return (
        plain(entry.id),
        [(plain(account.key), *lifetime(account)) for account in accounts] if moves else (),
        str(nanos),
        entry.at[:10],
        row_of(sum_key(entry)),
        quantities,
        text(entry),
    )


def reversal_of(entry: LedgerEntry) -> tuple[object, ...]:
    """The charge that takes an entry back. Of an account it needs only the key: one that has expired stays away."""
    accounts = [MovedAccount(moved.budget, moved.period, "", "", "") for moved in entry.moved]
    return charge_of(entry.reversed(), accounts)


def row_of(key: SumKey) -> str:
    """The beginning of the fields of a row of day sums; the quantity's name follows. JSON ends where its `]` is."""
    parts = (key.owner, key.model, key.card, key.tier, key.long_context, key.endpoint, key.status)
    return _json([plain(part) for part in parts]).decode()


def text(record: msgspec.Struct) -> str:
    """As JSON, in a text: the server's MessagePack knows no bytes."""
    try:
        return _json(record).decode()
    except UnicodeEncodeError:  # half a surrogate pair, say in a header: no text, but no reason to lose a charge
        texts = {name: value for name in record.__struct_fields__ if isinstance(value := getattr(record, name), str)}
        return _json(msgspec.structs.replace(record, **{name: plain(value) for name, value in texts.items()})).decode()


def plain(given: str) -> str:
    """Without what is no text."""
    return given if given.isascii() else given.encode(errors="replace").decode()


def raw(payload: object) -> msgspec.Raw:
    # Packed when it comes in: what cannot be packed fails at its caller, and sending again costs nothing.
    return msgspec.Raw(pack(payload))


def moved_account(account: Account) -> MovedAccount:
    """What the store needs of an account to move money."""
    return MovedAccount(account.budget.name, account.key, *lifetime(account))


def lifetime(account: Account | MovedAccount) -> tuple[str, str, str]:
    """When its keys expire (Unix seconds; empty: never), its series, and the owner that the series lists."""
    if isinstance(account, MovedAccount):
        return account.expires_at, account.series, account.owner
    ends_at = account.ends_at
    expires_at = "" if ends_at is None else str(ends_at + keys.KEPT_AFTER_PERIOD_SECONDS)
    return expires_at, account.series, account.owner_identity or ""
