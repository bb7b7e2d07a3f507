"""Values of a card file, checked one by one. Every complaint names the file, the line, what is wrong, and the mend."""

import re
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from rates.card_lines import BareNumber, Lines
from rates.card_lines import Path as Where
from rates.errors import CatalogueError

_T = TypeVar("_T")
_AMOUNT = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,18})?")
_PROVIDER = re.compile(r"[a-z0-9][a-z0-9._-]*")


class Values:
    """Reads the values of one file and knows where they stand."""

    def __init__(self, path: Path, lines: Lines) -> None:
        self.path = path
        self.lines = lines

    def wrong(self, where: Where, reason: str) -> NoReturn:
        raise CatalogueError(f"{self.path}:{self.lines.line_of(where)}: {reason}")

    def optional(
        self, table: dict[str, Any], key: str, where: Where, read: Callable[[dict[str, Any], Where], _T]
    ) -> _T | None:
        return read(self.table(table, key, where), (*where, key)) if key in table else None

    def known(self, table: Mapping[str, Any], keys: Collection[str], where: Where) -> None:
        """Every key of the table is one of these."""
        for key in table:
            if key not in keys:
                near = get_close_matches(key, keys, n=1)
                mend = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(keys)}"
                self.wrong((*where, key), f"unknown field {key!r}; {mend}")

    def names(self, table: dict[str, Any], key: str, choices: Collection[str], where: Where) -> frozenset[str]:
        """A list of names out of these; empty when it is not there."""
        chosen = table.get(key, [])
        if not isinstance(chosen, list) or not all(isinstance(each, str) and each in choices for each in chosen):
            self.wrong((*where, key), f"{key} must be a list out of: {', '.join(choices)}")
        return frozenset(chosen)

    def table(self, table: dict[str, Any], key: str, where: Where) -> dict[str, Any]:
        value = table[key]
        if not isinstance(value, dict):
            self.wrong((*where, key), f"{key} must be a table: {key} = {{ … }}")
        return value

    def text(self, table: dict[str, Any], key: str, where: Where) -> str:
        value = self.present(table, key, where)
        if not isinstance(value, str) or not value.strip():
            self.wrong((*where, key), f"{key} must be a text in quotes, and not empty")
        return value

    def provider(self, table: dict[str, Any], key: str, where: Where) -> str:
        value = self.text(table, key, where)
        if not _PROVIDER.fullmatch(value):
            self.wrong((*where, key), f"provider {value!r} must be small letters, digits, dots, - and _")
        return value

    def flag(self, table: dict[str, Any], key: str, where: Where) -> bool:
        value = table.get(key, False)
        if not isinstance(value, bool):
            self.wrong((*where, key), f"{key} must be true or false, without quotes")
        return value

    def count(self, table: dict[str, Any], key: str, where: Where) -> int:
        value = self.present(table, key, where)
        if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
            self.wrong((*where, key), f"{key} must be a whole number above zero, without quotes")
        return value

    def amount(self, table: dict[str, Any], key: str, where: Where) -> Decimal:
        value = self.present(table, key, where)
        if isinstance(value, BareNumber | int) and not isinstance(value, bool):
            written = value.text if isinstance(value, BareNumber) else str(value) if abs(value) < 10**18 else "…"
            self.wrong((*where, key), f'{key} = {written} is a number; write the amount in quotes: {key} = "{written}"')
        if isinstance(value, str) and value.startswith("-"):
            self.wrong((*where, key), f"{key} = {value!r} is below zero")
        if not isinstance(value, str) or not _AMOUNT.fullmatch(value):
            self.wrong((*where, key), f'{key} = {value!r} is not a plain decimal amount, such as "0.15"')
        return Decimal(value)

    def day(self, table: dict[str, Any], key: str, where: Where) -> date:
        value = self.present(table, key, where)
        if isinstance(value, datetime) or not isinstance(value, date):
            self.wrong((*where, key), f"{key} must be a date without quotes, such as 2026-11-21")
        return value

    def moment(self, table: dict[str, Any], key: str, where: Where) -> datetime:
        """A date means its first moment in UTC; a date with a time needs its offset."""
        value = self.present(table, key, where)
        if isinstance(value, datetime):
            if value.tzinfo is None:
                self.wrong((*where, key), f"{key} has a time without an offset; write 2026-11-22T00:00:00Z")
            try:
                return value.astimezone(UTC)
            except OverflowError:
                self.wrong((*where, key), f"{key} is not a date in UTC")
        return datetime.combine(self.day(table, key, where), time(), UTC)

    def present(self, table: dict[str, Any], key: str, where: Where) -> Any:
        if key not in table:
            self.wrong(where, f"{key} is missing")
        return table[key]
