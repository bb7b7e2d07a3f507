"""Every row of cases.csv, to the nano. Expected amounts were computed by hand from the price pages, not by rates.

Columns: residency is `yes` at a data-residency endpoint; usage is `kind=quantity;…`; usd is rounded half to even to the nano-dollar; an empty usd means NotPriced.
"""

import csv
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from rates import Catalogue, NotPriced, Usage, load_catalogue, parse_model_name, price

CASES = list(csv.DictReader(Path(__file__).with_name("cases.csv").read_text("utf-8").splitlines()))


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue()


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case['id']} {case['tier']} {case['usage']} {case['at'][:10]}"
)
def test_case(catalogue: Catalogue, case: dict[str, str]) -> None:
    usage = Usage.of(
        {kind: int(n) for kind, _, n in (part.partition("=") for part in case["usage"].split(";") if part)}
    )

    def charge() -> tuple[int, str]:
        found = catalogue.find(
            parse_model_name(case["id"]),
            provider=case["provider"],
            tier=case["tier"] or None,
            at=datetime.fromisoformat(case["at"]),
            resident=bool(case["residency"]),
        )
        return price(usage, found.card).nanos, found.provenance

    if not case["usd"]:
        with pytest.raises(NotPriced) as caught:
            charge()
        assert "\n" not in str(caught.value)
        return
    expected = Decimal(case["usd"]) * 10**9
    assert expected == int(expected), "a case is written in whole nanos"
    assert (int(expected), case["provenance"]) == charge()


def test_the_table_is_large_enough_and_says_nothing_twice() -> None:
    keys = [tuple(case[key] for key in ("id", "provider", "tier", "residency", "at", "usage")) for case in CASES]
    assert len(keys) >= 200
    assert len(set(keys)) == len(keys)
