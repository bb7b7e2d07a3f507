"""`[[budget]]` tables: the grammar of a budget, and what is wrong with one that does not follow it."""

import re
import zoneinfo
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from proxy.config.records import BudgetConfig
from proxy.config.sources import Setting, did_you_mean, toml
from proxy.config.values import items, one_of, text, truth
from proxy.errors import ConfigError
from rates.money import plain, to_nanos

PERIODS = ("day", "week", "month", "total")
LIMIT_BELOW_USD = 9_200_000_000  # its nanos still fit the store's 64-bit integers (2^63 nanos are 9.22e9 USD)
RESERVED_OWNERS = ("anonymous", "other")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,63}")
_OWNER = re.compile(r"[a-z0-9._-]{1,63}")
_KEY_OWNER = re.compile(r"key-([0-9a-f]{8}|[0-9a-f]{64})")  # as it is shown, or whole


def owner_problem(owner: str) -> str | None:
    """Why a taximeter key cannot have this owner; None when it can."""
    if not _OWNER.fullmatch(owner):
        return "an owner has 1 to 63 characters of a-z, 0-9, dot, underscore and hyphen"
    if owner.startswith("key-") or owner in RESERVED_OWNERS:
        return '"key-…", "anonymous" and "other" are reserved: they name callers without a taximeter key'
    return None


def budgets(setting: Setting) -> tuple[BudgetConfig, ...]:
    """The array of tables as records, in the file's order. Names are unique: a name is what the store counts under."""
    if isinstance(setting.value, dict):
        raise ConfigError(f"{setting.label} is one table; a budget needs double brackets: write [[budget]]")
    if not isinstance(setting.value, list) or not all(isinstance(table, dict) for table in setting.value):
        raise setting.wrong("must be tables: write [[budget]]")
    records: dict[str, BudgetConfig] = {}
    for number, table in enumerate(setting.value, start=1):
        record = _budget(setting, number, table)
        if record.name in records:
            raise ConfigError(
                f'{setting.label} "{record.name}": the name is taken by an earlier budget; choose another'
            )
        records[record.name] = record
    return tuple(records.values())


def place(label: str, number: int, table: Mapping[str, object]) -> str:
    """How a complaint names a budget: by its name where it has one, else by its position."""
    name = table.get("name")
    return f"{label} {toml(name)}" if isinstance(name, str) else f"{label} number {number}"


def limit_nanos(label: str, amount: str) -> int:
    """An amount of dollars that a limit can be, from a command line. Raises ConfigError."""
    return _limit(Setting(amount, label, Path()))


def owner_name(label: str, owner: str) -> str:
    """An owner's shown name or identity, from a command line. Raises ConfigError."""
    return _owner(Setting(owner, label, Path()))


def _budget(setting: Setting, number: int, table: Mapping[str, object]) -> BudgetConfig:
    where = place(setting.label, number, table)
    for key, example in (("name", '"acme-monthly"'), ("limit_usd", '"500"'), ("period", '"month"')):
        if key not in table:
            raise ConfigError(f"{where}: {key} is missing; write, for example, {key} = {example}")
    found = {key: Setting(value, f"{where}: {key}", setting.base) for key, value in table.items()}
    values: dict[str, Any] = {key: READERS[key](value) for key, value in found.items()}
    if "per" in values and "owner" in values:
        raise found["per"].wrong(f"cannot stand beside owner = {toml(values['owner'])}; leave one of them out")
    values["limit_nanos"] = values.pop("limit_usd")
    return BudgetConfig(**values)


def _name(setting: Setting) -> str:
    value = text(setting)
    if not _NAME.fullmatch(value):
        raise setting.wrong("a name has 1 to 63 characters of A-Z, a-z, 0-9, dot, underscore and hyphen")
    return value


def _limit(setting: Setting) -> int:
    """Exact nanos. A TOML float is refused: 0.1 has no exact binary form, and money is exact here."""
    value = setting.value
    if isinstance(value, Decimal):
        example = f"{value:f}" if value.is_finite() and -10 < value.adjusted() < 10 else "500.00"
        raise setting.wrong(f'money is exact, a float is not: write it in quotes, limit_usd = "{example}"')
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise setting.wrong('must be an amount in quotes: limit_usd = "500.00"')
    written = str(value) if isinstance(value, str) or value.bit_length() < 64 else ""
    if written.startswith("-"):
        raise setting.wrong("must be zero or more")
    if isinstance(value, str) and not re.fullmatch(r"[0-9]+(\.[0-9]+)?", written):
        raise setting.wrong('must be plain digits with a point: no sign, no comma, no exponent; write "500.00"')
    if not written or len(written.partition(".")[0].lstrip("0")) > 10 or Decimal(written) >= LIMIT_BELOW_USD:
        raise setting.wrong(f"must be below {LIMIT_BELOW_USD:,} USD; a larger limit is no limit")
    if len(written.partition(".")[2].rstrip("0")) > 9:
        raise setting.wrong("has more than 9 decimal places; a nano-dollar is the smallest amount")
    return to_nanos(Decimal(written))


def _owner(setting: Setting) -> str:
    value = text(setting)
    if value == "anonymous" or _KEY_OWNER.fullmatch(value):
        return value
    if value.startswith("key-"):
        raise setting.wrong('after "key-" come the first 8 or all 64 hex digits of the SHA-256 of the caller\'s key')
    if value == "other":
        raise setting.wrong('"other" is reserved: metrics put owners beyond the limit there')
    problem = owner_problem(value)
    if problem:
        raise setting.wrong(problem)
    return value


def _timezone(setting: Setting) -> str:
    value = text(setting)
    try:
        zoneinfo.ZoneInfo(value)
    except (OSError, ValueError, zoneinfo.ZoneInfoNotFoundError):
        hint = did_you_mean(value, _zones()) or '; write a name such as "UTC" or "Europe/Berlin"'
        raise setting.wrong(f"is no time zone of the IANA database{hint}") from None
    return value


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


def _alert_at(setting: Setting) -> tuple[Decimal, ...]:
    """Thresholds as exact shares of the limit, ascending, each once."""
    shares = set()
    for item in items(setting):
        written = str(item.value) if isinstance(item.value, int | Decimal | str) else ""
        if isinstance(item.value, bool) or not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,6})?", written):
            raise item.wrong("must be a share of the limit with at most 6 decimals, such as 0.8 for 80%")
        share = Decimal(written)
        if not 0 < share <= 10:
            hint = f"; for {plain(share)}% write {plain(share / 100)}" if share > 10 else ""
            raise item.wrong(f"must be above 0 and at most 10 (0.8 is 80% of the limit){hint}")
        shares.add(Decimal(plain(share)))
    return tuple(sorted(shares))


def _per(setting: Setting) -> str:
    return one_of(setting, ("owner",))


READERS: Mapping[str, Callable[[Setting], object]] = {
    "name": _name,
    "limit_usd": _limit,
    "period": partial(one_of, choices=PERIODS),
    "timezone": _timezone,
    "owner": _owner,
    "model": text,
    "fine_tuned": truth,
    "per": _per,
    "alert_at": _alert_at,
    "on_exceed": partial(one_of, choices=("refuse", "alert")),
    "on_store_loss": partial(one_of, choices=("allow", "refuse")),
    "backfill": truth,
}
