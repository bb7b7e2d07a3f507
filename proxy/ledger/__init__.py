"""What is written down for good: entries, and the day sums that reports are made from. No I/O and no clock."""

from proxy.ledger.entry import LedgerEntry, Moved, Status
from proxy.ledger.opened import MovedAccount, Opened, presumed, utc_text
from proxy.ledger.parked import Parked
from proxy.ledger.sums import SumKey, SumRow, sum_key

__all__ = [
    "LedgerEntry",
    "Moved",
    "MovedAccount",
    "Opened",
    "Parked",
    "Status",
    "SumKey",
    "SumRow",
    "presumed",
    "sum_key",
    "utc_text",
]
