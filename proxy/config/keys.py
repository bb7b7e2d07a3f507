"""The table of keys: which exist at the top of the file, and what each may hold."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from proxy.config.budgets import READERS as BUDGET_READERS
from proxy.config.budgets import budgets, place
from proxy.config.notify import READERS as NOTIFY_READERS
from proxy.config.notify import notifies
from proxy.config.sources import Setting, did_you_mean, toml
from proxy.config.urls import store_url, upstream
from proxy.config.values import address, items, number, one_of, path, text, text_table, truth, variable, whole
from proxy.errors import ConfigError


def _paths(setting: Setting) -> tuple[Path, ...]:
    return tuple(path(item) for item in items(setting))


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
    "upstream_key_env": variable,
    "upstream_key_file": path,
    "upstream_ca_file": path,
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
    "notify": notifies,
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


_TABLES = {"budget": BUDGET_READERS, "notify": NOTIFY_READERS}


def refuse_unknown(file: str, table: Mapping[str, object]) -> None:
    """Raise ConfigError for the first key, here or in a table of an array, that does not exist; name the nearest."""
    for key, value in table.items():
        is_table = isinstance(value, list) and value and isinstance(value[0], dict)  # then its own name is misspelt
        for name, readers in _TABLES.items():
            if key in readers and key not in READERS and not is_table:
                raise ConfigError(f"{file}: unknown key {toml(key)}; it belongs below a [[{name}]]")
        if key not in READERS:
            raise ConfigError(f"{file}: unknown key {toml(key)}{did_you_mean(key, READERS)}")
    for name, readers in _TABLES.items():
        tables = table.get(name)
        for position, each in enumerate(tables if isinstance(tables, list) else [], start=1):
            for key in each if isinstance(each, dict) else ():
                where = place(f"{file}: {name}", position, each)
                if key in READERS and key not in readers:
                    raise ConfigError(f"{where}: unknown key {toml(key)}; it belongs above the first [[{name}]]")
                if key not in readers:
                    raise ConfigError(f"{where}: unknown key {toml(key)}{did_you_mean(key, readers)}")
