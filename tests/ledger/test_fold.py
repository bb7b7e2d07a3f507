"""Folding lines: what they add to accounts and day sums, cut anywhere."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from proxy.ledger.entry import LedgerEntry, Moved
from proxy.ledger.fold import Fold
from proxy.ledger.sums import quantities_of, row_of, sum_key
from tests.ledger.lines import lines


def plain(fold: Fold) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
    """Without what is zero."""
    days = {day: {field: number for field, number in fields.items() if number} for day, fields in fold.days.items()}
    return {key: nanos for key, nanos in fold.accounts.items() if nanos}, {
        day: fields for day, fields in days.items() if fields
    }


@given(st.lists(lines(), max_size=12), st.integers(0, 12))
def test_two_parts_add_up_to_the_whole(every: list[LedgerEntry], cut: int) -> None:
    head, tail, whole = Fold(every[:cut]), Fold(every[cut:]), Fold(every)

    for key, nanos in tail.accounts.items():
        head.accounts[key] += nanos
    for day, fields in tail.days.items():
        for field, number in fields.items():
            head.days[day][field] += number
    assert plain(head) == plain(whole)
    assert (whole.lines, head.lines + tail.lines) == (len(every), len(every))


@given(st.lists(lines(), max_size=6))
def test_a_line_and_its_reversal_leave_nothing(every: Sequence[LedgerEntry]) -> None:
    fold = Fold([*every, *(line.reversed() for line in every)])

    assert plain(fold) == ({}, {})


@given(lines())
def test_a_line_adds_its_requests_its_usage_and_its_cost_to_one_row(line: LedgerEntry) -> None:
    fold = Fold([line])

    row = row_of(sum_key(line))
    [(day, fields)] = fold.days.items()
    assert day == line.at[:10]
    assert fields == {row + kind: number for kind, number in quantities_of(line)}
    assert fields[row + "requests"] == line.requests
    assert fields.get(row + "nanos", 0) == (line.cost_nanos or 0)
    assert {kind: number for kind, number in quantities_of(line) if kind not in ("requests", "nanos")} == line.usage


@given(lines())
def test_every_account_gets_what_moved(line: LedgerEntry) -> None:
    doubled = tuple(Moved(moved.budget, moved.period, moved.nanos) for moved in line.moved)

    assert Fold([line]).accounts == {moved.period: line.cost_nanos or 0 for moved in doubled}
