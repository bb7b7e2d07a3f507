"""Lines of a ledger, drawn at random: whatever keeps the invariants."""

import random
import uuid
from typing import Any

from hypothesis import strategies as st

from proxy.ledger.entry import LedgerEntry, Moved
from rates.usage import KINDS

STATUSES = ("reported", "estimated", "presumed", "unpriced", "failed")
_names = st.text(st.characters(codec="utf-8"), max_size=12)


def lines(**fixed: Any) -> st.SearchStrategy[LedgerEntry]:
    """Entries, replacements and reversals; what is fixed is so in all of them."""
    # All but the texts from one number: drawing each value apart takes hypothesis longer than the tests themselves.
    return st.builds(lambda seed, name: line_of(seed, name, **fixed), st.integers(0, 2**32), _names)


def line_of(seed: int, name: str = "a name", **fixed: Any) -> LedgerEntry:
    chance = random.Random(seed)
    status = fixed.get("status", chance.choice(STATUSES))
    cost = {"unpriced": None, "failed": 0}.get(status, chance.choice((0, 1, chance.randrange(10**12))))
    accounts = [key for key in ("a/2026-11", "b/total", "c/2026-W47/acme") if chance.random() < 0.5]
    values: dict[str, Any] = {
        "id": str(uuid.UUID(int=chance.getrandbits(128))),
        "line": chance.choice(("entry", "correction")),
        "at": f"2026-11-{chance.randint(10, 14)}T12:00:00.000Z",
        "owner": chance.choice(("acme", name)),
        "endpoint": chance.choice(("chat/completions", "embeddings")),
        "asked_model": chance.choice((None, name)),
        "served_model": chance.choice((None, name, "gpt-4o")),
        "tier": chance.choice(("standard", "batch")),
        "status": status,
        "usage": {kind: chance.randint(1, 10**9) for kind in chance.sample(KINDS, chance.randint(0, 4))},
        "card": None if cost is None else "openai/card",
        "provenance": None if cost is None else "exact",
        "long_context": chance.random() < 0.5,
        "cost_nanos": cost,
        "moved": tuple(Moved(key.partition("/")[0], key, cost or 0) for key in accounts),
    }
    entry = LedgerEntry(**{**values, **fixed})
    return entry.reversed() if chance.random() < 0.5 and "requests" not in fixed else entry
