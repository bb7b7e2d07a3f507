"""Sheets: what is to be shown, without a word about how. `render` draws them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Literal

from proxy.reports.amounts import count, counted, dollar_column, dollars, local_time, percent, time_left
from proxy.reports.budget_use import BudgetUse
from proxy.reports.spending import GroupValue, Report, Spending
from rates.charge import Charge
from rates.money import plain, usd_text

Level = Literal["fine", "alert", "over"]


@dataclass(frozen=True, slots=True)
class Column:
    """Numbers stand to the right. Words may fold on a narrow terminal; numbers and what must stay whole never do."""

    title: str
    number: bool = False
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """A share of a whole, and a further share that is only set aside."""

    used: Decimal
    held: Decimal
    level: Level


Cell = str | Bar


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table with an optional last row of totals, and sentences below it."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    total: Sequence[Cell] | None = None
    notes: Sequence[str] = ()


def spending_sheet(report: Report, since: date, until: date) -> Sheet:
    """A report for people. `until` is exclusive."""
    total = report.total
    days = f"{since} to {until - timedelta(days=1)}, whole days in UTC"
    if not report.rows:
        return Sheet((), (), notes=(f"No requests from {days}.",))
    kinds = [kind for kind in (total.tokens | total.calls) if kind not in ("input", "output")]
    shown = ["input", *kinds, "output"]
    columns = [
        *(Column(_TITLES.get(key, key)) for key in report.by),
        Column("requests", number=True),
        *(Column(kind.replace("_", " "), number=True) for kind in shown),
        Column("cost", number=True),
    ]
    costs = dollar_column([row.cost_nanos for row in (*report.rows, total)])
    rows = [
        (*(_group_text(value) for value in row.keys.values()), *_numbers(row, shown), cost)
        for row, cost in zip(report.rows, costs[:-1], strict=True)
    ]
    blanks = [""] * (len(report.by) - 1)
    names = ["total", *blanks] if report.by else []
    return Sheet(columns, rows, (*names, *_numbers(total, shown), costs[-1]), (f"From {days}.", *_caveats(total)))


def budget_sheet(uses: Sequence[BudgetUse], now: datetime, zone: tzinfo | None = None) -> Sheet:
    """Budgets for people: each with a bar, what is used and held, and when it starts anew (`zone` None: local)."""
    owners = any(use.per for use in uses)
    forecasts = any(use.used_up_at for use in uses)
    columns = [
        Column("budget"),
        *([Column("owner")] if owners else []),
        Column("period"),
        Column("used", whole=True),
        Column("", number=True),
        Column("spent", number=True),
        Column("held", number=True),
        Column("limit", number=True),
        *([Column("used up at this pace")] if forecasts else []),
        Column("resets"),
    ]
    amounts = [dollar_column([getattr(use, name) for use in uses]) for name in ("spent", "held", "limit")]
    rows: list[tuple[Cell, ...]] = [
        (
            use.name,
            *([use.owner or ("(none yet)" if use.per else "")] if owners else []),
            use.period,
            _bar(use),
            percent(use.used_ratio),
            *(column[position] for column in amounts),
            *([_used_up(use, now, zone)] if forecasts else []),
            _resets(use, now, zone),
        )
        for position, use in enumerate(uses)
    ]
    return Sheet(columns, rows, notes=[_raised(use, zone) for use in uses if use.raised is not None])


def charge_sheet(charge: Charge) -> Sheet:
    """How a cost comes about, line by line."""
    columns = (
        Column("kind"),
        Column("quantity", number=True),
        Column("USD per 1M", number=True),
        Column("cost", number=True),
    )
    rows = [
        (
            line.kind,
            count(line.quantity),
            f"${plain(line.usd_per_million)}"
            if line.usd_per_million is not None
            else f"${plain(line.usd_per_unit or Decimal(0))} each",
            f"${plain(line.usd)}",
        )
        for line in charge.lines
    ]
    return Sheet(columns, rows, ("total", "", "", f"${usd_text(charge.nanos)}"))


_TITLES = {"base_model": "base model", "fine_tuned": "fine-tuned"}


def _group_text(value: GroupValue) -> str:
    match value:
        case None:
            return "(unknown)"
        case bool():
            return "fine-tuned" if value else "base"
        case _:
            return value


def _numbers(row: Spending, kinds: Sequence[str]) -> tuple[str, ...]:
    return count(row.requests), *(count(row.quantities.get(kind, 0)) for kind in kinds)


def _caveats(total: Spending) -> list[str]:
    """What the reader must know before trusting the total."""
    found = (
        (total.unpriced_requests, "unpriced: no rate card; their cost is unknown and in no sum"),
        (total.estimated_requests, "estimated: the upstream reported no usage; tokens were counted here"),
        (total.presumed_requests, "presumed: settled from what was held; nobody lived to tell the usage"),
        (total.failed_requests, "failed at the upstream: cost 0"),
    )
    return [f"{counted(number, 'request')} {what}." for number, what in found if number]


def _bar(use: BudgetUse) -> Bar:
    level: Level = "over" if use.used_up else "alert" if use.alerting else "fine"
    if not use.limit:
        return Bar(Decimal(1), Decimal(0), level)
    return Bar(Decimal(use.spent) / use.limit, Decimal(use.held) / use.limit, level)


def _used_up(use: BudgetUse, now: datetime, zone: tzinfo | None) -> str:
    if use.used_up_at is None:
        return "not in this period" if use.spent and use.resets_at else ""
    return "used up" if use.used_up_at <= now else local_time(use.used_up_at, zone)


def _raised(use: BudgetUse, zone: tzinfo | None) -> str:
    raised = use.raised
    assert raised is not None
    whose = f" for {use.owner}" if use.owner else ""
    return (
        f"{use.name}: raised to {dollars(raised.limit)}{whose} until {local_time(raised.until, zone)} "
        f"by {raised.who}: {raised.why}"
    )


def _resets(use: BudgetUse, now: datetime, zone: tzinfo | None) -> str:
    if use.resets_at is None:
        return "never"
    return f"{local_time(use.resets_at, zone)} ({time_left(use.resets_at, now)})"
