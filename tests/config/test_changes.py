"""What differs between two configurations, said in words, without a secret."""

from decimal import Decimal
from pathlib import Path
from typing import Any

from proxy.config import BudgetConfig, Config, NotifyConfig, Secret, changes


def config(*budgets: BudgetConfig, **fields: Any) -> Config:
    return Config(**{"data_dir": Path("/d"), "budgets": budgets, **fields})


def budget(name: str = "acme", **fields: Any) -> BudgetConfig:
    return BudgetConfig(**{"name": name, "limit_nanos": 500 * 10**9, "period": "month", **fields})


def test_nothing() -> None:
    assert changes(config(budget()), config(budget())) == []


def test_budgets() -> None:
    before = config(budget(), budget("gone"))
    after = config(
        budget(limit_nanos=800 * 10**9, model="gpt-4o*", alert_at=(Decimal("0.5"),)),
        budget("new", period="day"),
        budget("filled", backfill=True),
    )

    assert changes(before, after) == [
        "budget gone: removed; what it has spent is kept for 90 days past its period",
        "budget acme: limit_usd $500 → $800, model (none) → gpt-4o*, alert_at 0.8, 1 → 0.5; what it has spent stays",
        "budget new: added, limit $500 a day; it counts from now on",
        "budget filled: added, limit $500 a month; it counts from the ledger's entries of its period",
    ]


def test_keys() -> None:
    before = config(unpriced="allow", models={"a": "b"}, rate_files=())
    after = config(unpriced="refuse", models={}, rate_files=(Path("/r.toml"),), max_request_seconds=60)

    assert set(changes(before, after)) == {
        "unpriced: allow → refuse",
        "models: (1 entries) → (0 entries)",
        f"rate_files: (none) → {(Path('/r.toml'),)}",
        "max_request_seconds: 3600 → 60",
    }


def test_secrets_are_named_and_not_shown() -> None:
    before = config(upstream_key=Secret("sk-old"), redis_url="redis://:pw@h")
    after = config(
        upstream_key=Secret("sk-new"), redis_url="redis://:pw2@h", notify=(NotifyConfig(url=Secret("https://h/x")),)
    )

    assert set(changes(before, after)) == {"upstream_key: changed", "redis_url: changed", "notify: changed"}
