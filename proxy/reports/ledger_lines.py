"""A line of the ledger as programs and people read it."""

from datetime import datetime
from typing import Any

from proxy.config.sources import escaped
from proxy.ledger import LedgerEntry, utc_text
from proxy.reports.amounts import count, dollars
from rates.money import usd_text
from rates.usage import PROMPT_KINDS

FIELDS = (
    *("id", "line", "kind", "at", "owner", "endpoint", "asked_model", "served_model", "tier", "status", "usage"),
    *("card", "provenance", "cost_nanos", "upstream_id", "client_request_id", "upstream_status", "latency_ms"),
    *("requests", "reason", "assumed", "long_context", "moved", "cost_usd", "applied_at"),
    "upstream_request_id",
)
"""What a line is made of. Programs rely on the names; new ones come last."""

_WIDTHS = (19, 16, 30, -8, -7, -12, 10, 36)  # below 0: to the right


def line_json(line: LedgerEntry, applied_at: datetime) -> dict[str, Any]:
    """As `ledger export --format jsonl` prints it; `applied_at` is when the store took it down."""
    shown = {
        "moved": [{"budget": each.budget, "period": each.period, "nanos": each.nanos} for each in line.moved],
        "cost_usd": usd_text(line.cost_nanos),
        "applied_at": utc_text(applied_at),
    }
    return {name: shown[name] if name in shown else getattr(line, name) for name in FIELDS}


def tail_row(line: LedgerEntry) -> str:
    """One line of text, aligned below `tail_head`, in the reader's own time zone."""
    at = datetime.fromisoformat(line.at).astimezone()
    model = line.served_model or line.asked_model or "(unknown)"
    read = sum(quantity for kind, quantity in line.usage.items() if kind in PROMPT_KINDS)
    written = sum(quantity for kind, quantity in line.usage.items() if kind.endswith("output"))
    what: str = line.status
    if line.line == "correction":
        what += ", taken back" if line.requests < 0 else ", corrected"
    when = f"{at:%Y-%m-%d %H:%M:%S}"
    return _aligned(when, line.owner, model, count(read), count(written), dollars(line.cost_nanos), what, line.id)


def tail_head() -> str:
    return _aligned("local time", "owner", "model", "input", "output", "cost", "status", "id")


def _aligned(*cells: str) -> str:
    texts = map(escaped, cells)
    return "  ".join(
        text.rjust(-width) if width < 0 else text.ljust(width) for text, width in zip(texts, _WIDTHS, strict=True)
    ).rstrip()
