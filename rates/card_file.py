"""Card files: TOML in, `Sheet`s out. One `[[card]]` is one sheet: a model over one period, with a price for each tier.

    provider = "openai"

    [[card]]
    model = "gpt-4o-mini"
    snapshots = ["gpt-4o-mini-2024-07-18"]        # ids of exactly this price; the model's own name is then their alias
    effective_from = 2024-07-18                   # UTC; a later card of the model ends this one
    source = "https://…"
    checked = 2026-11-21
    standard = { input = "0.15", cached_input = "0.075", output = "0.60" }       # USD per million tokens, in quotes

`source` and `checked` may stand once at the head of the file. `[tools.NAME]` there is a list of prices a call or a
session; a card that says `tools = "NAME"` has them in each of its tiers.

Invariant: a file is taken whole or not at all. Every complaint is one line: file, line, what is wrong, the mend.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from rates.card_lines import BareNumber, Lines
from rates.card_lines import Path as Where
from rates.card_values import Values
from rates.errors import CatalogueError
from rates.model_name import PROVIDERS, ModelName, parse_model_name
from rates.rate_card import TIERS, UNIT_KINDS, Hosting, LongContext, Training
from rates.usage import KINDS

_FILE_KEYS = ("provider", "source", "checked", "tools", "card")
_CARD_KEYS = (
    *("model", "provider", "fine_tuned", "snapshots", "any_date", "effective_from", "effective_to", "assumed"),
    *("source", "checked", "shutdown", "max_output_tokens", "note", "training", "hosting", "long_context"),
    *("residency_times", "tools"),
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
    any_date: bool
    effective_from: datetime
    effective_to: datetime | None
    start_assumed: bool
    tiers: Mapping[str, TierRates]
    long_context: LongContext | None
    residency_times: Decimal | None
    shutdown: date | None
    max_output_tokens: int | None
    training: Training | None
    hosting: Hosting | None
    source: str
    checked: date
    note: str

    @property
    def model(self) -> str:
        return self.name.whole


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
        reason, _, place = str(error).rpartition(" (at ")
        number = int(place.split()[1].rstrip(",")) if place.startswith("line ") else max(1, len(text.splitlines()))
        raise CatalogueError(f"{path}:{number}: is not TOML: {reason}") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, brackets a thousand deep
        raise CatalogueError(f"{path}: is not a card file: a value is too large or nested too deep") from None
    reader = _Reader(path, Lines(text))
    reader.known(document, _FILE_KEYS, ())
    reader.head(document)
    cards = document.get("card", [])
    if not isinstance(cards, list) or not all(isinstance(card, dict) for card in cards):
        reader.wrong(("card",), "a card is written as [[card]], with two brackets")
    return tuple(reader.sheet(card, ("card", index)) for index, card in enumerate(cards))


class _Reader(Values):
    """Reads the cards of one file."""

    def __init__(self, path: Path, lines: Lines) -> None:
        super().__init__(path, lines)
        self.defaults: dict[str, Any] = {}
        self.tools: dict[str, dict[str, Decimal]] = {}

    def head(self, document: dict[str, Any]) -> None:
        """What stands once for every card of the file."""
        for key, read in (("provider", self.provider), ("source", self.text), ("checked", self.day)):
            if key in document:
                read(document, key, ())
                self.defaults[key] = document[key]
        for name in self.table(document, "tools", ()) if "tools" in document else ():
            where: Where = ("tools", name)
            prices = self.table(document["tools"], name, ("tools",))
            self.known(prices, sorted(UNIT_KINDS), where)
            self.tools[name] = {kind: self.amount(prices, kind, where) for kind in prices}

    def sheet(self, card: dict[str, Any], where: Where) -> Sheet:
        self.known(card, _CARD_KEYS, where)
        card = {**self.defaults, **card}
        model = self.text(card, "model", where)
        name = parse_model_name(model)
        if "provider" not in card:
            self.wrong(where, f'{model}: provider is missing; write it here or once at the top: provider = "openai"')
        provider = self.provider(card, "provider", where)
        if name.prefix is not None and provider in PROVIDERS:
            self.wrong((*where, "model"), f'model {model!r} has a prefix; write provider = "{name.provider}" instead')
        start_assumed = "effective_from" in self.names(card, "assumed", ("effective_from",), where)
        effective_from = self.moment(card, "effective_from", where)
        effective_to = self.moment(card, "effective_to", where) if "effective_to" in card else None
        if effective_to is not None and effective_to <= effective_from:
            self.wrong((*where, "effective_to"), f"{model}: effective_to is not after effective_from")
        tools = self.tools_of(card, where) if "tools" in card else {}
        tiers = {tier: self.tier(card, tier, tools, where) for tier in TIERS if tier in card}
        if not tiers:
            self.wrong(where, f"{model}: has no price; write at least {TIERS[0]} = {{ input = …, output = … }}")
        return Sheet(
            path=self.path,
            line=self.lines.line_of(where),
            provider=provider,
            name=name,
            fine_tuned=name.fine_tuned or self.flag(card, "fine_tuned", where),
            snapshots=self.snapshots(card, where) if "snapshots" in card else None,
            any_date=self.flag(card, "any_date", where),
            effective_from=effective_from,
            effective_to=effective_to,
            start_assumed=start_assumed,
            tiers=tiers,
            long_context=self.optional(card, "long_context", where, self.long_context),
            residency_times=self.amount(card, "residency_times", where) if "residency_times" in card else None,
            shutdown=self.day(card, "shutdown", where) if "shutdown" in card else None,
            max_output_tokens=self.count(card, "max_output_tokens", where) if "max_output_tokens" in card else None,
            training=self.optional(card, "training", where, self.training),
            hosting=self.optional(card, "hosting", where, self.hosting),
            source=self.text(card, "source", where),
            checked=self.day(card, "checked", where),
            note=self.text(card, "note", where) if "note" in card else "",
        )

    def tools_of(self, card: dict[str, Any], where: Where) -> Mapping[str, Decimal]:
        chosen = card["tools"]
        if not isinstance(chosen, str) or chosen not in self.tools:
            known = ", ".join(f"[tools.{name}]" for name in self.tools) or "none"
            self.wrong((*where, "tools"), f"tools must name a list of tool prices of this file; there is: {known}")
        return self.tools[chosen]

    def tier(self, card: dict[str, Any], tier: str, tools: Mapping[str, Decimal], where: Where) -> TierRates:
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
            unit_rates={**tools, **{kind: amount for kind, amount in amounts.items() if kind in UNIT_KINDS}},
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
        folded = tuple(parse_model_name(each).whole for each in ids)
        if len(set(folded)) < len(folded):
            self.wrong((*where, "snapshots"), "snapshots names an id twice")
        return folded
