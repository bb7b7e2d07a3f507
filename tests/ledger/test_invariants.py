"""What is true of every line, and that a line for which it is not is told."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.ledger.entry import LONGEST_ID, LedgerEntry, Moved, kept_id
from proxy.ledger.invariants import problem_of
from tests.ledger.lines import lines


@given(lines())
def test_what_is_drawn_keeps_them_and_so_does_its_reversal(line: LedgerEntry) -> None:
    assert problem_of(line) is None
    assert problem_of(line.reversed()) is None


@given(lines())
def test_a_line_reads_back_as_it_was_written(line: LedgerEntry) -> None:
    assert msgspec.json.decode(msgspec.json.encode(line), type=LedgerEntry) == line


@given(lines())
def test_a_reversal_takes_back_exactly_that(line: LedgerEntry) -> None:
    back = line.reversed()

    assert (back.id, back.at, back.status, back.card, back.line) == (
        *(line.id, line.at, line.status, line.card),
        "correction",
    )
    assert (back.requests, back.cost_nanos) == (
        -line.requests,
        None if line.cost_nanos is None else -line.cost_nanos,
    )
    assert back.reversed() == msgspec.structs.replace(line, line="correction")


@given(lines(requests=1, status="reported"), st.integers(1, 10**12))
def test_no_number_can_be_changed_unseen(line: LedgerEntry, more: int) -> None:
    change = msgspec.structs.replace
    assert line.cost_nanos is not None
    if line.moved:
        assert problem_of(change(line, cost_nanos=line.cost_nanos + more))
        first = line.moved[0]
        assert problem_of(change(line, moved=(Moved(first.budget, first.period, first.nanos + more), *line.moved[1:])))
    assert problem_of(change(line, requests=1 + more))
    assert problem_of(change(line, cost_nanos=-more, moved=()))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"cost_nanos": None}, "is reported and costs nothing known"),
        ({"status": "unpriced"}, "is unpriced and costs 100 nanos"),
        ({"status": "failed"}, "failed and costs 100 nanos"),
        ({"requests": 0}, "counts 0 requests"),
        ({"requests": -1}, "takes back, and is no correction"),
        ({"requests": -1, "line": "correction"}, "costs 100 nanos"),
        ({"usage": {"input": -1}}, "has -1 input"),
        ({"moved": (Moved("b", "b/total", 99),)}, "costs 100 nanos and moved 99 in b/total"),
    ],
)
def test_the_problem_is_named(changes: dict[str, object], problem: str) -> None:
    line = LedgerEntry(
        id="e1",
        at="2026-11-22T00:00:00.000Z",
        owner="acme",
        endpoint="chat/completions",
        asked_model="m",
        served_model="m",
        tier="standard",
        status="reported",
        usage={"input": 1},
        card="openai/m",
        provenance="exact",
        cost_nanos=100,
    )

    assert problem_of(line) is None
    assert problem_of(msgspec.structs.replace(line, **changes)) == problem


@pytest.mark.parametrize("text", [None, "", "req_1", "x" * LONGEST_ID])
def test_an_id_is_kept(text: str | None) -> None:
    assert kept_id(text) == text


def test_an_id_that_is_none_is_not_kept() -> None:
    assert kept_id("x" * (LONGEST_ID + 1)) is None
