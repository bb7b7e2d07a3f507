"""What differs between two configurations, in words for who changed them. Secrets are named, never shown."""

from collections.abc import Iterator
from dataclasses import fields

from proxy.config.records import BudgetConfig, Config
from proxy.config.sources import escaped
from rates.money import plain, usd_text

_SECRET = frozenset(("redis_url", "upstream_key", "notify"))
_APART = frozenset(("budgets", "source", "warnings"))


def changes(before: Config, after: Config) -> list[str]:
    """One line for each budget and each key that changed."""
    lines = list(_budget_changes(before, after))
    for field in fields(Config):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if field.name in _APART or old == new:
            continue
        shown = "changed" if field.name in _SECRET else f"{_text(old)} → {_text(new)}"
        lines.append(f"{field.name}: {shown}")
    return lines


def _budget_changes(before: Config, after: Config) -> Iterator[str]:
    old, new = ({budget.name: budget for budget in config.budgets} for config in (before, after))
    for name in old.keys() - new.keys():
        yield f"budget {name}: removed; what it has spent is kept for 90 days past its period"
    for name, budget in new.items():
        if name not in old:
            counts = "from the ledger's entries of its period" if budget.backfill else "from now on"
            yield f"budget {name}: added, limit ${usd_text(budget.limit_nanos)} a {budget.period}; it counts {counts}"
        elif budget != old[name]:
            yield f"budget {name}: {', '.join(_differences(old[name], budget))}; what it has spent stays"


def _differences(old: BudgetConfig, new: BudgetConfig) -> Iterator[str]:
    for field in fields(BudgetConfig):
        was, now = getattr(old, field.name), getattr(new, field.name)
        if was == now:
            continue
        if field.name == "limit_nanos":
            yield f"limit_usd ${usd_text(was)} → ${usd_text(now)}"
        elif field.name == "alert_at":
            yield f"alert_at {', '.join(map(plain, was))} → {', '.join(map(plain, now))}"
        else:
            yield f"{field.name} {_text(was)} → {_text(now)}"


def _text(value: object) -> str:
    if isinstance(value, dict):
        return f"({len(value)} entries)"
    return "(none)" if value in (None, ()) else escaped(str(value))
