"""What becomes of an entry on other cards, and the counts by model."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from proxy.admission import Rules
from proxy.budgets import BudgetBook
from proxy.config import Config
from proxy.ledger.entry import LedgerEntry, Moved
from proxy.reports.ledger_reprice import Repricing
from rates import load_catalogue

MODEL = "gpt-4o-mini-2024-07-18"
RIGHT = 450_000  # nanos: 1,000 tokens at $0.15 and 500 at $0.60 a million


def repricing(tmp_path: Path, *, presumed: bool = False, **config: Any) -> Repricing:
    rules = Rules(Config(data_dir=tmp_path, **config), load_catalogue(), BudgetBook(()))
    return Repricing(rules, presumed=presumed)


def entry(cost: int | None, **changes: Any) -> LedgerEntry:
    values: dict[str, Any] = {
        "id": "e1",
        "at": "2026-11-22T12:00:00.000Z",
        "owner": "acme",
        "endpoint": "chat/completions",
        "asked_model": "gpt-4o-mini",
        "served_model": MODEL,
        "tier": "standard",
        "status": "unpriced" if cost is None else "reported",
        "usage": {"input": 1000, "output": 500},
        "card": None if cost is None else "openai/before",
        "provenance": None if cost is None else "exact",
        "cost_nanos": cost,
        "moved": (Moved("b", "b/total", cost or 0),),
    }
    return LedgerEntry(**{**values, **changes})


def test_a_new_price_comes_with_its_card_and_moves_the_same_budgets(tmp_path: Path) -> None:
    new = repricing(tmp_path).replacement(entry(7))

    assert new is not None
    assert (new.cost_nanos, new.moved, new.provenance, new.status) == (
        *(RIGHT, (Moved("b", "b/total", RIGHT),), "exact", "reported"),
    )
    assert new.card != "openai/before"
    kept = ("id", "at", "owner", "endpoint", "asked_model", "usage", "requests", "reason")
    assert [getattr(new, name) for name in kept] == [getattr(entry(7), name) for name in kept]


def test_the_same_price_is_no_change(tmp_path: Path) -> None:
    first = repricing(tmp_path)
    new = first.replacement(entry(7))
    assert new is not None

    again = repricing(tmp_path)
    assert again.replacement(new) is None
    assert (again.total.changed, again.total.difference) == (0, 0)
    assert (first.total.changed, first.total.old_nanos, first.total.new_nanos) == (1, 7, RIGHT)


@pytest.mark.parametrize(
    ("counted_as", "status"),
    [("reported", "reported"), ("estimated", "estimated"), ("presumed", "presumed"), (None, "reported")],
)
def test_what_had_no_price_gets_the_status_that_it_would_have_had(tmp_path: Path, counted_as: Any, status: str) -> None:
    found = repricing(tmp_path)
    new = found.replacement(entry(None, counted_as=counted_as, reason="no card prices it"))

    assert new is not None
    assert (new.status, new.reason, new.counted_as, new.cost_nanos) == (status, "repriced", None, RIGHT)
    assert (found.total.unpriced, found.total.unpriced_left) == (1, 0)


def test_what_failed_goes_on_costing_nothing(tmp_path: Path) -> None:
    found = repricing(tmp_path)

    assert found.replacement(entry(0, status="failed")) is None
    assert (found.total.entries, found.total.new_nanos, found.total.kept) == (1, 0, 0)


def test_presumed_entries_only_when_asked(tmp_path: Path) -> None:
    line = entry(7, status="presumed", reason="host_lost")

    assert repricing(tmp_path).replacement(line) is None
    new = repricing(tmp_path, presumed=True).replacement(line)
    assert new is not None
    assert (new.status, new.reason, new.cost_nanos) == ("presumed", "host_lost", RIGHT)


def test_an_entry_that_no_card_prices_any_more_keeps_its_cost(tmp_path: Path) -> None:
    found = repricing(tmp_path)

    assert found.replacement(entry(7, served_model="nobody-knows")) is None
    assert (found.total.kept, found.total.old_nanos, found.total.new_nanos) == (1, 7, 7)


def test_an_entry_that_still_has_no_price_is_left(tmp_path: Path) -> None:
    found = repricing(tmp_path)

    for line in (entry(None, served_model="nobody-knows"), entry(None, asked_model=None, served_model=None)):
        assert found.replacement(line) is None
    assert (found.total.unpriced, found.total.unpriced_left, found.total.kept) == (2, 2, 0)
    assert [row.model for row in found.in_order()] == [None, "nobody-knows"]


@pytest.mark.parametrize("usage", [{"input": -1}, {"no_such_kind": 1}, {"input": 10**10}])
def test_a_usage_that_no_card_can_price_leaves_the_entry(tmp_path: Path, usage: dict[str, int]) -> None:
    assert repricing(tmp_path).replacement(entry(7, usage=usage)) is None


def test_a_deployment_that_is_known_by_now(tmp_path: Path) -> None:
    line = entry(None, asked_model="acme-classifier", served_model="acme-classifier")

    assert repricing(tmp_path).replacement(line) is None
    new = repricing(tmp_path, models={"acme-classifier": MODEL}).replacement(line)
    assert new is not None
    assert (new.served_model, new.cost_nanos) == (MODEL, RIGHT)


def test_the_card_of_the_day_holds_and_not_todays(tmp_path: Path) -> None:
    line = entry(7, served_model="gpt-5.6-sol", asked_model="gpt-5.6-sol")
    before, after = (
        repricing(tmp_path).replacement(msgspec.structs.replace(line, at=f"{day}T00:00:00.000Z"))
        for day in ("2026-11-21", "2026-11-22")
    )

    assert before is not None
    assert after is not None
    assert before.cost_nanos != after.cost_nanos  # the promotional price ends between them


def test_the_doubt_of_an_estimate_stays(tmp_path: Path) -> None:
    found = repricing(tmp_path)
    doubted = found.replacement(entry(7, status="estimated", reason="client_left", assumed=True))
    sure = found.replacement(entry(7, assumed=True))

    assert doubted is not None
    assert sure is not None
    assert (doubted.assumed, sure.assumed) == (True, False)


def test_rows_are_by_model_and_add_up_to_the_total(tmp_path: Path) -> None:
    found = repricing(tmp_path)
    for line in (entry(7), entry(RIGHT), entry(None), entry(5, served_model="gpt-4o-2024-08-06")):
        found.replacement(line)

    rows = found.in_order()
    assert [(row.model, row.entries, row.changed) for row in rows] == [
        ("gpt-4o-2024-08-06", 1, 1),
        (MODEL, 3, 2),
    ]
    for name in ("entries", "changed", "unpriced", "old_nanos", "new_nanos", "difference"):
        assert sum(getattr(row, name) for row in rows) == getattr(found.total, name)
    assert rows[1].as_json()["difference_usd"] == "0.000899993"
