"""The figures of `tests/data/token_pairs/cited.csv` are what its README states; the texts themselves are not here."""

import csv
import re
from collections.abc import Callable, Iterable
from statistics import median

import pytest

from proxy.metering.encodings import tokenizer_for
from tests.metering.feeding import DATA

Row = dict[str, str]
FOLDER = DATA / "token_pairs"
ROWS: list[Row] = list(csv.DictReader((FOLDER / "cited.csv").read_text(encoding="utf-8").splitlines()))
COUNTED = [row for row in ROWS if not row["left_out"]]


def cl100k(row: Row) -> bool:
    return tokenizer_for(row["model"]).encoding == "cl100k_base"


def total(rows: Iterable[Row], *columns: str) -> int:
    return sum(int(row[column]) for row in rows for column in columns)


def error(rows: list[Row], *kinds: str) -> float:
    """Percent of what was charged."""
    charged = total(rows, *(f"{kind}_charged" for kind in kinds))
    return 100 * (total(rows, *(f"{kind}_counted" for kind in kinds)) - charged) / charged


def percent(number: float) -> str:
    return "0.00%" if abs(number) < 0.005 else f"{number:+.2f}%".replace("-", "\N{MINUS SIGN}")


def readme_row(name: str, rows: list[Row]) -> str:
    each = [abs(error([row], "prompt", "answer")) for row in rows]
    exact = sum(row["prompt_charged"] == row["prompt_counted"] for row in rows)
    cells = [
        name,
        str(len(rows)),
        f"{total(rows, 'prompt_charged'):,} + {total(rows, 'answer_charged'):,}",
        f"{exact} of {len(rows)}",
        *(percent(error(rows, *kinds)) for kinds in (("prompt",), ("answer",), ("prompt", "answer"))),
        f"{median(each):.2f}%",
        f"{max(each):.2f}%",
    ]
    return f"| {' | '.join(cells)} |"


def english(row: Row, kind: str) -> bool:
    return (row["language"], row["kind"]) == ("English", kind)


GROUPS: list[tuple[str, int, Callable[[Row], bool]]] = [
    ("Japanese, plain", 20, lambda row: (row["language"], row["kind"]) == ("Japanese", "plain")),
    ("Japanese, models that reason", 10, lambda row: (row["language"], row["kind"]) == ("Japanese", "reasoning")),
    ("code, plain, gpt-4o-mini", 44, lambda row: row["language"] == "code" and not cl100k(row)),
    ("code, plain, gpt-3.5 and gpt-4", 64, lambda row: row["language"] == "code" and cl100k(row)),
    (
        "English, plain, /responses, gpt-4o and gpt-4.1",
        13,
        lambda row: english(row, "plain") and "gpt-4" in row["model"],
    ),
    ("English, plain, gpt-5 and later", 7, lambda row: english(row, "plain") and "gpt-5" in row["model"]),
    ("English, gpt-5 and later, after a thought", 18, lambda row: english(row, "reasoning")),
]


@pytest.mark.parametrize(("name", "n", "belongs"), GROUPS)
def test_the_readme_states_the_errors_of_the_cited_pairs(name: str, n: int, belongs: Callable[[Row], bool]) -> None:
    rows = [row for row in COUNTED if belongs(row)]
    assert len(rows) == n
    assert abs(error(rows, "prompt", "answer")) <= (2 if {row["kind"] for row in rows} == {"plain"} else 6)
    assert readme_row(name, rows) in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_every_cited_pair_can_be_looked_up() -> None:
    for row in ROWS:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", row["repository"])
        assert re.fullmatch(r"[0-9a-f]{40}", row["commit"])
        assert re.fullmatch(r"[0-9a-f]{64}", row["sha256"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", row["recorded"])
        assert row["path"]
        assert row["place"]
    assert len({row["sha256"] for row in ROWS}) == len(ROWS)


def test_no_plain_answer_is_off_by_more_than_the_token_that_ends_it() -> None:
    plain = [row for row in COUNTED if row["kind"] == "plain"]
    assert {int(row["answer_charged"]) - int(row["answer_counted"]) for row in plain} == {0, 1}


def test_a_message_that_was_sent_again_is_charged_each_time() -> None:
    again = [row for row in ROWS if row["left_out"].startswith("sent again")]
    assert len(again) == 4
    for row in again:
        times = int(re.findall(r"stands (\d) times", row["left_out"])[0])
        assert (int(row["prompt_charged"]) - int(row["prompt_counted"])) % (times - 1) == 0
