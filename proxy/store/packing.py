"""Entries, accounts and records as the scripts and the journal keep them."""

from collections.abc import Sequence

import msgspec

from proxy.budgets import Account
from proxy.ledger.entry import LedgerEntry
from proxy.ledger.line_text import LineText, line_text
from proxy.ledger.opened import MovedAccount
from proxy.ledger.texts import plain
from rates.money import Nanos

MAX_AMOUNT: Nanos = 10**16
"""Ten million dollars for one request. apply.lua keeps room for it below the end of an int64."""

pack = msgspec.msgpack.Encoder().encode


def charge_of(
    entry: LedgerEntry | LineText, accounts: Sequence[Account | MovedAccount], *more: str
) -> tuple[object, ...]:
    """A charge as the script reads it. `more` stands behind it."""
    line = entry if isinstance(entry, LineText) else line_text(entry)
    return (
        plain(line.id),
        [(plain(each.key), each.expires_at, each.series, each.owner) for each in accounts] if line.moves else (),
        str(line.nanos),
        line.day,
        line.row,
        line.quantities,
        line.text,
        *more,
    )


def reversal_of(entry: LedgerEntry) -> tuple[object, ...]:
    """The charge that takes an entry back. Of an account it needs only the key: one that has expired stays away."""
    accounts = [MovedAccount(moved.budget, moved.period, "", "", "") for moved in entry.moved]
    return charge_of(entry.reversed(), accounts)


def raw(payload: object) -> msgspec.Raw:
    # Packed when it comes in: what cannot be packed fails at its caller, and sending again costs nothing.
    return msgspec.Raw(pack(payload))


def moved_account(account: Account) -> MovedAccount:
    """What the store needs of an account to move money."""
    return MovedAccount(account.budget.name, account.key, account.expires_at, account.series, account.owner)
