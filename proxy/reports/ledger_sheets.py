"""What the ledger's commands show to people."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from proxy.ledger.entry import LedgerEntry
from proxy.reports.amounts import count, dollar_column, dollars, local_time
from proxy.reports.ledger_reprice import Repriced
from proxy.reports.sheet import Column, Sheet, charge_sheet
from rates import Catalogue, Charge, NotPriced, Usage, price


def charge_of(entry: LedgerEntry, catalogue: Catalogue) -> Charge | None:
    """How the cost of an entry comes about. None where it has none, or its card is not known here."""
    card = None if entry.card is None else catalogue.card(entry.card)
    if card is None:
        return None
    try:
        return price(Usage.of(entry.usage), card)
    except (NotPriced, ValueError):
        return None


def entry_sheets(lines: Sequence[tuple[LedgerEntry, datetime]], charge: Charge | None) -> list[Sheet]:
    """Every line of one entry, and what is in force: the last line, unless that takes back."""
    rows = [
        (
            local_time(applied_at),
            line.line if line.line == "entry" else "taken back" if line.requests < 0 else "corrected",
            line.status,
            line.served_model or line.asked_model or "(unknown)",
            line.card or "",
            dollars(line.cost_nanos),
        )
        for line, applied_at in lines
    ]
    titles = ("written", "line", "status", "model", "rate card", "cost")
    written = Sheet([Column(title, number=title == "cost") for title in titles], rows)
    last = lines[-1][0]
    if last.requests < 0:
        return [written, Sheet((), (), notes=["It was taken back for good: nothing of it is in any sum."])]
    return [written, Sheet((Column(""), Column("")), [*_facts(last)]), *_charged(last, charge)]


def _facts(entry: LedgerEntry) -> list[tuple[str, str]]:
    texts: Mapping[str, object] = {
        "id": entry.id,
        "began": entry.at,
        "owner": entry.owner,
        "endpoint": entry.endpoint,
        "asked model": entry.asked_model,
        "tier": entry.tier,
        "reason": entry.reason,
        "provenance": f"{entry.provenance}{', assumed' if entry.assumed else ''}" if entry.provenance else None,
        "upstream status": entry.upstream_status,
        "upstream id": entry.upstream_id,
        "upstream request id": entry.upstream_request_id,
        "client request id": entry.client_request_id,
        "latency": None if entry.latency_ms is None else f"{count(entry.latency_ms)} ms",
    }
    moved = [("moved", f"{each.period}: {dollars(each.nanos)}") for each in entry.moved]
    return [*((title, str(text)) for title, text in texts.items() if text is not None), *moved]


def _charged(entry: LedgerEntry, charge: Charge | None) -> list[Sheet]:
    if charge is None:
        why = "" if entry.card is None else f" Card {entry.card} is not known here, or has changed."
        quantities = [(kind, count(quantity)) for kind, quantity in entry.usage.items()]
        columns = (Column("kind"), Column("quantity", number=True))
        return [Sheet(columns if quantities else (), quantities, notes=[f"Cost: {dollars(entry.cost_nanos)}.{why}"])]
    sheet = charge_sheet(charge)
    if charge.nanos != entry.cost_nanos:
        note = f"This card has changed since: the entry cost {dollars(entry.cost_nanos)}."
        return [Sheet(sheet.columns, sheet.rows, sheet.total, [note])]
    return [sheet]


def reprice_sheet(rows: Sequence[Repriced], total: Repriced, notes: Sequence[str]) -> Sheet:
    """What changes, by model."""
    if not rows:
        return Sheet((), (), notes=["No entries in that span of time."])
    titles = ("model", "entries", "changed", "old", "new", "difference", "unpriced", "unpriced left")
    columns = [Column(title, number=position > 0) for position, title in enumerate(titles)]
    every = [*rows, total]
    old, new, difference = (
        dollar_column([getattr(row, name) for row in every]) for name in ("old_nanos", "new_nanos", "difference")
    )
    cells = [
        (
            row.model or "(unknown)",
            count(row.entries),
            count(row.changed),
            old[position],
            new[position],
            difference[position],
            count(row.unpriced),
            count(row.unpriced_left),
        )
        for position, row in enumerate(every)
    ]
    kept = [f"{total.kept:,} without a price on these cards: what they cost stays."] if total.kept else []
    return Sheet(columns, cells[:-1], ("total", *cells[-1][1:]), [*kept, *notes])


def audit_sheet(lines: Sequence[tuple[datetime, Mapping[str, Any]]]) -> Sheet:
    """What people changed; what is particular to an action is said in its own words."""
    if not lines:
        return Sheet((), (), notes=["Nobody has changed anything."])
    common = ("at", "who", "action")
    rows = [
        (
            local_time(at),
            str(line.get("who", "")),
            str(line.get("action", "")),
            ", ".join(f"{name}: {value}" for name, value in line.items() if name not in common and value is not None),
        )
        for at, line in lines
    ]
    return Sheet([Column(title) for title in ("time", "who", "action", "what")], rows)
