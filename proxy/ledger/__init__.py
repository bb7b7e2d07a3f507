"""What is written down for good: entries, and the day sums that reports are made from. No I/O and no clock.

entry       a line: what it says, and its reversal; `invariants` is what is true of each
sums        the rows of day sums, and what a line adds to its own
fold        what many lines add up to
line_text   a line as the store takes it
opened      what is known of a request before it is sent; `presumed` makes an entry of that
forms       what the records of like requests have in common
parked      a request that the upstream works on in the background
texts       records as JSON, moments in them
"""

from proxy.ledger.entry import LedgerEntry, Moved, Status, kept_id
from proxy.ledger.forms import LineForm, OpenedForm
from proxy.ledger.line_text import LineText
from proxy.ledger.opened import MovedAccount, Opened, OpenedText, presumed
from proxy.ledger.parked import Parked
from proxy.ledger.sums import SumKey, SumRow, sum_key
from proxy.ledger.texts import utc_text

__all__ = [
    "LedgerEntry",
    "LineForm",
    "LineText",
    "Moved",
    "MovedAccount",
    "Opened",
    "OpenedForm",
    "OpenedText",
    "Parked",
    "Status",
    "SumKey",
    "SumRow",
    "kept_id",
    "presumed",
    "sum_key",
    "utc_text",
]
