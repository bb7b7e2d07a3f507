"""What is written down for good: entries, and the day sums that reports are made from. No I/O and no clock.

entry       a line: what it says, and its reversal; `invariants` is what is true of each
sums        the rows of day sums, and what a line adds to its own
fold        what many lines add up to
opened      what is known of a request before it is sent; `presumed` makes an entry of that
parked      a request that the upstream works on in the background
"""

from proxy.ledger.entry import LedgerEntry, Moved, Status, kept_id
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
    "kept_id",
    "presumed",
    "sum_key",
    "utc_text",
]
