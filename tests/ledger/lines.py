"""Lines of a ledger, drawn at random: whatever keeps the invariants."""

from typing import Any

from hypothesis import strategies as st

from proxy.ledger.entry import LedgerEntry, Moved
from rates.usage import KINDS

STATUSES = ("reported", "estimated", "presumed", "unpriced", "failed")
texts = st.text(st.characters(codec="utf-8"), max_size=12)


@st.composite
def lines(draw: st.DrawFn, /, **fixed: Any) -> LedgerEntry:
    """An entry, a replacement or a reversal."""
    status = fixed.get("status", draw(st.sampled_from(STATUSES)))
    cost = {"unpriced": None, "failed": 0}.get(status, draw(st.integers(0, 10**12)))
    accounts = draw(st.lists(st.sampled_from(("a/2026-11", "b/total", "c/2026-W47/acme")), unique=True))
    values: dict[str, Any] = {
        "id": draw(st.uuids()).hex,
        "line": draw(st.sampled_from(("entry", "correction"))),
        "at": f"2026-11-{draw(st.integers(10, 14))}T12:00:00.000Z",
        "owner": draw(texts),
        "endpoint": draw(st.sampled_from(("chat/completions", "embeddings"))),
        "asked_model": draw(st.none() | texts),
        "served_model": draw(st.none() | texts),
        "tier": draw(st.sampled_from(("standard", "batch"))),
        "status": status,
        "usage": draw(st.dictionaries(st.sampled_from(KINDS), st.integers(1, 10**9), max_size=4)),
        "card": None if cost is None else "openai/card",
        "provenance": None if cost is None else "exact",
        "long_context": draw(st.booleans()),
        "cost_nanos": cost,
        "moved": tuple(Moved(key.partition("/")[0], key, cost or 0) for key in accounts),
    }
    entry = LedgerEntry(**{**values, **fixed})
    return entry.reversed() if draw(st.booleans()) and "requests" not in fixed else entry
