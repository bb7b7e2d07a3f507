"""`[[notify]]` tables: whom to tell when a budget reaches a threshold. A webhook's URL is a secret, and never shown."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from proxy.config.records import NotifyConfig, Secret
from proxy.config.sources import Setting
from proxy.config.values import items, one_of, text, variable
from proxy.errors import ConfigError

SHORTEST_SECRET = 16  # characters: a shorter one could be guessed


def notifies(setting: Setting) -> tuple[NotifyConfig, ...]:
    """The array of tables as records, in the file's order. No two have the same URL: each event is told there once."""
    if isinstance(setting.value, dict):
        raise ConfigError(f"{setting.label} is one table; it needs double brackets: write [[notify]]")
    if not isinstance(setting.value, list) or not all(isinstance(table, dict) for table in setting.value):
        raise setting.wrong("must be tables: write [[notify]]", shown="…")
    records: list[NotifyConfig] = []
    for number, table in enumerate(setting.value, start=1):
        record = _notify(setting, f"{setting.label} number {number}", table)
        if record.url in [earlier.url for earlier in records]:
            raise ConfigError(f"{setting.label} number {number}: url is that of an earlier one; leave one of them out")
        records.append(record)
    return tuple(records)


def with_secrets(records: tuple[NotifyConfig, ...], label: str, environ: Mapping[str, str]) -> tuple[NotifyConfig, ...]:
    """The same, each with the secret that signs, from the variable that it names."""
    return tuple(_with_secret(record, f"{label} number {n}", environ) for n, record in enumerate(records, start=1))


def _with_secret(record: NotifyConfig, where: str, environ: Mapping[str, str]) -> NotifyConfig:
    if record.secret_env is None:
        return record
    content = environ.get(record.secret_env, "").strip()
    if not content:
        raise ConfigError(f"{where}: secret_env: {record.secret_env} is not set; set it, or leave the key out")
    if len(content) < SHORTEST_SECRET or not content.isprintable():
        raise ConfigError(f"{where}: secret_env: {record.secret_env} must hold at least {SHORTEST_SECRET} characters")
    return NotifyConfig(
        url=record.url,
        format=record.format,
        budgets=record.budgets,
        secret_env=record.secret_env,
        secret=Secret(content),
    )


def _notify(setting: Setting, where: str, table: Mapping[str, object]) -> NotifyConfig:
    if "url" not in table:
        raise ConfigError(f'{where}: url is missing; write, for example, url = "https://hooks.example.com/budgets"')
    values: dict[str, Any] = {
        key: READERS[key](Setting(value, f"{where}: {key}", setting.base)) for key, value in table.items()
    }
    return NotifyConfig(**values)


def _url(setting: Setting) -> Secret:
    try:
        value = text(setting)
        parts = urlsplit(value)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except (ConfigError, ValueError):
        is_url = False
    if not is_url or not re.fullmatch(r"[\x21-\x7e]+", value) or "#" in value or "@" in parts.netloc:
        reason = 'must be a URL such as "https://hooks.example.com/budgets", without user name and fragment'
        raise setting.wrong(reason, shown='"…"')  # it may be nearly right, and then it is a secret
    return Secret(value)


def _globs(setting: Setting) -> tuple[str, ...]:
    found = tuple(text(item) for item in items(setting))
    if not found:
        raise setting.wrong('is empty; leave the key out to be told of every budget, or write ["acme-*"]')
    return found


READERS: Mapping[str, Callable[[Setting], object]] = {
    "url": _url,
    "format": partial(one_of, choices=("generic", "slack")),
    "secret_env": variable,
    "budgets": _globs,
}
