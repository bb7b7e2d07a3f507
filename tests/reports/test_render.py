"""What stands on the screen: plain in a pipe, folded on a terminal, nothing lost, nothing from outside obeyed."""

import io
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from proxy.ledger.sums import SumKey, SumRow
from proxy.reports.budget_use import BudgetUse
from proxy.reports.render import show
from proxy.reports.sheet import Bar, Column, Sheet, budget_sheet, spending_sheet
from proxy.reports.spending import group

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class Ascii(io.StringIO):
    encoding = "ascii"


def shown(sheet: Sheet, out: io.StringIO | None = None, *, styled: bool | None = None) -> str:
    out = out or Terminal()
    show(sheet, out, styled=styled)
    return out.getvalue()


def piped(sheet: Sheet) -> str:
    out = io.TextIOWrapper(io.BytesIO(), "utf-8")
    show(sheet, out)
    out.seek(0)
    return out.read()


def row(model: str, nanos: int, status: str = "reported", **quantities: int) -> SumRow:
    return SumRow(
        "2026-11-21", SumKey("acme", model, "c", "standard", "", "chat/completions", status), 1, quantities, nanos
    )


def use(name: str, spent: int, **more: Any) -> BudgetUse:
    fields: dict[str, Any] = {
        "period": "month",
        "limit": 500 * 10**9,
        "held": 0,
        "resets_at": datetime(2026, 12, 1, tzinfo=UTC),
        "alert_at": (Decimal("0.8"),),
    }
    return BudgetUse(name=name, spent=spent, **(fields | more))


def test_a_report_in_a_pipe() -> None:
    rows = [
        row("ft:gpt-4o-mini-2024-07-18:acme::abc123", 900_000, input=1000, output=500),
        row("gpt-4o-mini", 1_000_450_000, input=1_200_000, cached_input=5),
        row("mystery", 0, "unpriced", input=1),
    ]

    lines = piped(spending_sheet(group(rows, ["model"]), date(2026, 11, 1), date(2026, 11, 23))).splitlines()

    assert lines == [
        "model                                   requests      input  cached input  output      cost",
        "gpt-4o-mini                                    1  1,200,000             5       0  $1.00045",
        "ft:gpt-4o-mini-2024-07-18:acme::abc123         1      1,000             0     500  $0.00090",
        "mystery                                        1          1             0       0  unpriced",
        "total                                          3  1,201,001             5     500  $1.00135",
        "From 2026-11-01 to 2026-11-22, whole days in UTC.",
        "1 request unpriced: no rate card; their cost is unknown and in no sum.",
    ]


def test_a_report_of_nothing() -> None:
    sheet = spending_sheet(group([], ["model"]), date(2026, 11, 1), date(2026, 11, 23))

    assert piped(sheet) == "No requests from 2026-11-01 to 2026-11-22, whole days in UTC.\n"


def test_budgets_in_a_pipe() -> None:
    uses = [
        use("acme-monthly", 400 * 10**9, held=30 * 10**9),
        use("each", 0, per="owner", resets_at=None),
        use("each", 500 * 10**9, per="owner", owner="key-1a2b3c4d", resets_at=None),
    ]

    resets = "2026-12-01 00:00 UTC (in 8 d 12 h)"

    lines = piped(budget_sheet(uses, NOW, UTC)).splitlines()

    assert lines == [
        "budget        owner         period  used                            spent    held    limit  resets",
        f"acme-monthly                month   ████████████████▒░░░   80.0%  $400.00  $30.00  $500.00  {resets}",
        "each          (none yet)    month   ░░░░░░░░░░░░░░░░░░░░    0.0%    $0.00   $0.00  $500.00  never",
        "each          key-1a2b3c4d  month   ████████████████████  100.0%  $500.00   $0.00  $500.00  never",
    ]


@pytest.mark.parametrize(
    ("used", "held", "expected"),
    [
        ("0", "0", "...................."),
        ("0.0001", "0", "#..................."),
        ("0", "0.0001", "+..................."),
        ("0.9999", "0", "###################."),
        ("0.9999", "0.0001", "###################+"),
        ("1", "0", "####################"),
        ("7", "1", "####################"),
    ],
)
def test_bars_without_blocks(used: str, held: str, expected: str) -> None:
    sheet = Sheet([Column("b")], [[Bar(Decimal(used), Decimal(held), "fine")]])

    assert expected in shown(sheet, Ascii())


def test_a_terminal_gets_colours_unless_it_asks_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    sheet = budget_sheet([use("b", 500 * 10**9)], NOW, UTC)

    coloured = shown(sheet)
    monkeypatch.setenv("NO_COLOR", "1")
    plain = shown(sheet)

    assert "\x1b[31m█" in coloured
    assert "\x1b" not in plain
    assert "████████████████████" in plain


@pytest.mark.parametrize("styled", [False, True])
def test_numbers_are_never_cut_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch, styled: bool) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "20")
    rows = [row("ft:gpt-4o-mini-2024-07-18:acme::abc123", 123_456_789_012_345_678, input=10**12, output=10**11)]

    text = shown(spending_sheet(group(rows, ["model"]), date(2026, 11, 1), date(2026, 11, 23)), styled=styled)

    for number in ("1,000,000,000,000", "100,000,000,000", "$123,456,789.012345678"):
        assert number in text
    assert "…" not in text
    folded = "".join(line.partition(" ")[0] for line in text.splitlines())
    assert "ft:gpt-4o-mini-2024-07-18:acme::abc123" in folded


def test_text_from_outside_is_only_text() -> None:
    evil = "\x1b[2Jx[red]y[/red]:smile:\r\n\u202ez"

    text = piped(spending_sheet(group([row(evil, 1)], ["model"]), date(2026, 11, 1), date(2026, 11, 2)))

    assert "\\x1b[2Jx[red]y[/red]:smile:\\r\\n\\u202ez" in text
    assert "\x1b" not in text


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)

    show(Sheet([Column("a")], [["b"]]))
