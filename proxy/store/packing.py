"""Entries, accounts and records as the scripts and the journal keep them."""

from collections.abc import Sequence

import msgspec

from proxy.budgets import Account
from proxy.ledger.entry import LedgerEntry
from proxy.ledger.opened import MovedAccount
from proxy.ledger.sums import plain, quantities_of, row_of, sum_key
from proxy.store import keys
from rates.money import Nanos

MAX_AMOUNT: Nanos = 10**16
"""Ten million dollars for one request. apply.lua keeps room for it below the end of an int64."""

_json = msgspec.json.Encoder().encode
pack = msgspec.msgpack.Encoder().encode


def charge_of(entry: LedgerEntry, accounts: Sequence[Account | MovedAccount]) -> tuple[object, ...]:
    """A charge as the script reads it."""
    quantities: list[str] = []
    for kind, number in quantities_of(entry):
        quantities += kind, str(number)
    # What is free, or has no price yet, may get one: its accounts must be there.
    moves = entry.status != "failed"
    return (
        plain(entry.id),
        [(plain(account.key), *lifetime(account)) for account in accounts] if moves else (),
        str(entry.cost_nanos or 0),
        entry.at[:10],
        row_of(sum_key(entry)),
        quantities,
        text(entry),
    )


def reversal_of(entry: LedgerEntry) -> tuple[object, ...]:
    """The charge that takes an entry back. Of an account it needs only the key: one that has expired stays away."""
    accounts = [MovedAccount(moved.budget, moved.period, "", "", "") for moved in entry.moved]
    return charge_of(entry.reversed(), accounts)


def text(record: msgspec.Struct) -> str:
    """As JSON, in a text: the server's MessagePack knows no bytes."""
    try:
        return _json(record).decode()
    except UnicodeEncodeError:  # half a surrogate pair, say in a header: no text, but no reason to lose a charge
        texts = {name: value for name in record.__struct_fields__ if isinstance(value := getattr(record, name), str)}
        return _json(msgspec.structs.replace(record, **{name: plain(value) for name, value in texts.items()})).decode()


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
