"""Card files: TOML in, `Sheet`s out. One `[[card]]` is one sheet: a model over one period, with a price for each tier.

    provider = "openai"

    [[card]]
    model = "gpt-4o-mini"
    snapshots = ["gpt-4o-mini-2024-07-18"]        # ids of exactly this price; the model's own name is then their alias
    effective_from = 2024-07-18                   # UTC; a later card of the model ends this one
    source = "https://…"
    checked = 2026-11-21
    standard = { input = "0.15", cached_input = "0.075", output = "0.60" }       # USD per million tokens, in quotes

Invariant: a file is taken whole or not at all. Every complaint is one line: file, line, what is wrong, the mend.
"""

import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from rates.card_lines import BareNumber, Lines
from rates.card_lines import Path as Where
from rates.errors import CatalogueError
from rates.model_name import ModelName, parse_model_name
from rates.rate_card import TIERS, UNIT_KINDS, Hosting, LongContext, Training
from rates.usage import KINDS

_T = TypeVar("_T")
_AMOUNT = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,15})?")
_PROVIDER = re.compile(r"[a-z0-9][a-z0-9._-]*")
_SYNTAX = re.compile(r"(.*) \(at line (\d+), column \d+\)", re.DOTALL)
_FILE_KEYS = ("provider", "card")
_CARD_KEYS = (
    *("model", "provider", "fine_tuned", "snapshots", "effective_from", "effective_to", "assumed", "source", "checked"),
    *("shutdown", "max_output_tokens", "note", "training", "hosting", "long_context"),
    *TIERS,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TierRates:
    """The amounts of one tier."""

    rates: Mapping[str, Decimal]
    unit_rates: Mapping[str, Decimal]
    long_rates: Mapping[str, Decimal]
    assumed: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """One `[[card]]` as written. `snapshots` is None when the file does not say."""

    path: Path
    line: int
    provider: str
    name: ModelName
    fine_tuned: bool
    snapshots: tuple[str, ...] | None
    effective_from: datetime
    effective_to: datetime | None
    start_assumed: bool
    tiers: Mapping[str, TierRates]
    long_context: LongContext | None
    shutdown: date | None
    max_output_tokens: int | None
    training: Training | None
    hosting: Hosting | None
    source: str
    checked: date
    note: str

    @property
    def model(self) -> str:
        return self.name.canonical


def read_card_file(path: Path) -> tuple[Sheet, ...]:
    """Raises CatalogueError for the first thing that is wrong."""
    try:
        text = path.read_text("utf-8")
        document = tomllib.loads(text, parse_float=BareNumber)
    except OSError as error:
        raise CatalogueError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CatalogueError(f"{path}: is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        match = _SYNTAX.fullmatch(str(error))
        place, reason = (f":{match[2]}", match[1]) if match else ("", str(error))
        raise CatalogueError(f"{path}{place}: is not TOML: {reason}") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, brackets a thousand deep
        raise CatalogueError(f"{path}: is not a card file: a value is too large or nested too deep") from None
    reader = _Reader(path, Lines(text))
    reader.known(document, _FILE_KEYS, ())
    provider = reader.provider(document, ()) if "provider" in document else None
    cards = document.get("card", [])
    if not isinstance(cards, list) or not all(isinstance(card, dict) for card in cards):
        reader.wrong(("card",), "a card is written as [[card]], with two brackets")
    return tuple(reader.sheet(card, ("card", index), provider) for index, card in enumerate(cards))


class _Reader:
    """Reads the values of one file and knows where they stand."""

    def __init__(self, path: Path, lines: Lines) -> None:
        self.path = path
        self.lines = lines

    def wrong(self, where: Where, reason: str) -> NoReturn:
        raise CatalogueError(f"{self.path}:{self.lines.line_of(where)}: {reason}")

    def sheet(self, card: dict[str, Any], where: Where, provider: str | None) -> Sheet:
        self.known(card, _CARD_KEYS, where)
        model = self.text(card, "model", where)
        name = parse_model_name(model)
        if name.prefix is not None:
            self.wrong((*where, "model"), f'model {model!r} has a prefix; write provider = "{name.provider}" instead')
        if "provider" in card:
            provider = self.provider(card, where)
        if provider is None:
            self.wrong(where, f'{model}: provider is missing; write it here or once at the top: provider = "openai"')
        start_assumed = "effective_from" in self.names(card, "assumed", ("effective_from",), where)
        effective_from = self.moment(card, "effective_from", where)
        effective_to = self.moment(card, "effective_to", where) if "effective_to" in card else None
        if effective_to is not None and effective_to <= effective_from:
            self.wrong((*where, "effective_to"), f"{model}: effective_to is not after effective_from")
        tiers = {tier: self.tier(card, tier, where) for tier in TIERS if tier in card}
        if not tiers:
            self.wrong(where, f"{model}: has no price; write at least {TIERS[0]} = {{ input = …, output = … }}")
        return Sheet(
            path=self.path,
            line=self.lines.line_of(where),
            provider=provider,
            name=name,
            fine_tuned=name.fine_tuned or self.flag(card, "fine_tuned", where),
            snapshots=self.snapshots(card, where) if "snapshots" in card else None,
            effective_from=effective_from,
            effective_to=effective_to,
            start_assumed=start_assumed,
            tiers=tiers,
            long_context=self.optional(card, "long_context", where, self.long_context),
            shutdown=self.day(card, "shutdown", where) if "shutdown" in card else None,
            max_output_tokens=self.count(card, "max_output_tokens", where) if "max_output_tokens" in card else None,
            training=self.optional(card, "training", where, self.training),
            hosting=self.optional(card, "hosting", where, self.hosting),
            source=self.text(card, "source", where),
            checked=self.day(card, "checked", where),
            note=self.text(card, "note", where) if "note" in card else "",
        )

    def tier(self, card: dict[str, Any], tier: str, where: Where) -> TierRates:
        table = self.table(card, tier, where)
        where = (*where, tier)
        self.known(table, (*KINDS, "assumed", "long_context"), where)
        amounts = {kind: self.amount(table, kind, where) for kind in KINDS if kind in table}
        if not amounts:
            self.wrong(where, f"{tier} has no amount")
        long_rates: dict[str, Decimal] = {}
        if "long_context" in table:
            if "long_context" not in card:
                self.wrong(where, f"{tier}.long_context needs a long_context of the card, which says where it begins")
            printed = self.table(table, "long_context", where)
            self.known(printed, amounts, (*where, "long_context"))
            long_rates = {kind: self.amount(printed, kind, (*where, "long_context")) for kind in printed}
        return TierRates(
            rates={kind: amount for kind, amount in amounts.items() if kind not in UNIT_KINDS},
            unit_rates={kind: amount for kind, amount in amounts.items() if kind in UNIT_KINDS},
            long_rates=long_rates,
            assumed=self.names(table, "assumed", amounts, where),
        )

    def long_context(self, table: dict[str, Any], where: Where) -> LongContext:
        self.known(table, ("above_prompt_tokens", "input_times", "output_times"), where)
        return LongContext(
            above_prompt_tokens=self.count(table, "above_prompt_tokens", where),
            input_times=self.amount(table, "input_times", where),
            output_times=self.amount(table, "output_times", where),
        )

    def training(self, table: dict[str, Any], where: Where) -> Training:
        self.known(table, ("usd_per_million", "usd_per_hour"), where)
        if len(table) != 1:
            self.wrong(where, "training has one amount: usd_per_million (of trained tokens) or usd_per_hour")
        return Training(**{key: self.amount(table, key, where) for key in table})

    def hosting(self, table: dict[str, Any], where: Where) -> Hosting:
        self.known(table, ("usd_per_hour", "note"), where)
        note = self.text(table, "note", where) if "note" in table else ""
        return Hosting(self.amount(table, "usd_per_hour", where), note)

    def snapshots(self, card: dict[str, Any], where: Where) -> tuple[str, ...]:
        ids = card["snapshots"]
        if not isinstance(ids, list) or not all(isinstance(each, str) and each for each in ids):
            self.wrong((*where, "snapshots"), "snapshots must be a list of ids in quotes")
        canonical = tuple(parse_model_name(each).canonical for each in ids)
        if len(set(canonical)) < len(canonical):
            self.wrong((*where, "snapshots"), "snapshots names an id twice")
        return canonical

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

    def provider(self, table: dict[str, Any], where: Where) -> str:
        value = self.text(table, "provider", where)
        if not _PROVIDER.fullmatch(value):
            self.wrong((*where, "provider"), f"provider {value!r} must be small letters, digits, dots, - and _")
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
