"""The table of keys: which exist at the top of the file, and what each may hold."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from proxy.config.budgets import READERS as BUDGET_READERS
from proxy.config.budgets import budgets, place
from proxy.config.sources import Setting, did_you_mean, toml
from proxy.config.urls import store_url, upstream
from proxy.config.values import address, items, number, one_of, path, text, text_table, truth, whole
from proxy.errors import ConfigError


def _paths(setting: Setting) -> tuple[Path, ...]:
    return tuple(path(item) for item in items(setting))


def _variable(setting: Setting) -> str:
    value = text(setting)
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
        # Not shown: a key that was pasted here by mistake is the usual reason.
        raise setting.wrong("must be the NAME of an environment variable, not the key itself", shown='"…"')
    return value


def _provider(setting: Setting) -> str:
    value = text(setting)
    if not re.fullmatch(r"[a-z0-9._-]{1,63}", value):
        raise setting.wrong('must be the name of a provider of rate cards, such as "openai" or "azure"')
    return value


READERS: Mapping[str, Callable[[Setting], object]] = {
    "listen": address,
    "ops_listen": address,
    "redis_url": store_url,
    "upstream": upstream,
    "upstream_key_env": _variable,
    "upstream_key_file": path,
    "provider": _provider,
    "data_residency": truth,
    "require_key": truth,
    "rate_files": _paths,
    "unpriced": partial(one_of, choices=("allow", "refuse")),
    "default_output_tokens": partial(whole, low=1, high=10_000_000),
    "data_dir": path,
    "workers": partial(whole, low=1, high=256),
    "drain_seconds": partial(number, low=0, high=86_400),
    "store_timeout_ms": partial(whole, low=10, high=60_000),
    "connect_timeout_seconds": partial(number, low=0.1, high=600),
    "upstream_timeout_seconds": partial(number, low=1, high=86_400),
    "max_open_requests_per_owner": partial(whole, low=1, high=1_000_000),
    "max_request_seconds": partial(number, low=1, high=604_800),
    "max_body_bytes": partial(whole, low=1_024, high=2**31),
    "ledger_days": partial(whole, low=1, high=36_500),
    "ledger_max_entries": partial(whole, low=1, high=1_000_000_000),
    "budget": budgets,
    "models": text_table,
    "baseline": text_table,
}
IN_ENVIRONMENT = {
    "TAXIMETER_LISTEN": "listen",
    "TAXIMETER_OPS_LISTEN": "ops_listen",
    "TAXIMETER_UPSTREAM": "upstream",
    "TAXIMETER_REDIS_URL": "redis_url",
    "TAXIMETER_DATA_DIR": "data_dir",
    "TAXIMETER_WORKERS": "workers",
}
"""Other TAXIMETER_ variables are left alone: Kubernetes sets TAXIMETER_PORT and more for a service of that name."""


def refuse_unknown(file: str, table: Mapping[str, object]) -> None:
    """Raise ConfigError for the first key, here or in a budget, that does not exist; name the nearest that does."""
    for key in table:
        if key in BUDGET_READERS and key not in READERS:
            raise ConfigError(f"{file}: unknown key {toml(key)}; it belongs below a [[budget]]")
        if key not in READERS:
            raise ConfigError(f"{file}: unknown key {toml(key)}{did_you_mean(key, READERS)}")
    tables = table.get("budget")
    for position, budget in enumerate(tables if isinstance(tables, list) else [], start=1):
        for key in budget if isinstance(budget, dict) else ():
            where = place(f"{file}: budget", position, budget)
            if key in READERS and key not in BUDGET_READERS:
                raise ConfigError(f"{where}: unknown key {toml(key)}; it belongs above the first [[budget]]")
            if key not in BUDGET_READERS:
                raise ConfigError(f"{where}: unknown key {toml(key)}{did_you_mean(key, BUDGET_READERS)}")
