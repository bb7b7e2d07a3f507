"""Folding: what lines of the ledger add up to, by account and by row of day sums.

Lines are deltas, so a fold of a stream cut anywhere, and of the rest, add up to the fold of the whole.
"""

from collections import defaultdict
from collections.abc import Iterable

from proxy.ledger.entry import LedgerEntry
from proxy.ledger.sums import quantities_of, row_of, sum_key
from rates.money import Nanos


class Fold:
    """`accounts`: account key → nanos that its lines moved. `days`: UTC day → field of the day's sums → quantity.

    An account or a field whose lines cancel each other stays, with 0.
    """

    def __init__(self, lines: Iterable[LedgerEntry] = ()) -> None:
        self.accounts: defaultdict[str, Nanos] = defaultdict(int)
        self.days: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.lines = 0
        self.corrections = 0
        for line in lines:
            self.add(line)

    def add(self, line: LedgerEntry) -> None:
        self.lines += 1
        self.corrections += line.line == "correction"
        for moved in line.moved:
            self.accounts[moved.period] += moved.nanos
        row = row_of(sum_key(line))
        day = self.days[line.at[:10]]
        for quantity, number in quantities_of(line):
            day[row + quantity] += number
