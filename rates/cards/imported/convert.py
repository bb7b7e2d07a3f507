"""Converts the prices of genai-prices into the card files of this folder. Development only: not a part of the package.

    python -m rates.cards.imported.convert      # writes <provider>.toml and LICENSE.genai-prices here

Invariant: an amount is taken over as it stands, or its model is left out and the head of the file says why.

Ids        Those that genai-prices' own search finds this very model for: its id and the texts of its rules. Where the
           search takes an id with any date behind it, so does the card (`any_date`). Never an id of a fine-tune (its
           prices of those are wrong), never an id that a shipped card of the same provider lists.
Dates      A price without a date begins on 2024-01-01, assumed; one with a date begins there.
Tiers      `processing: batch`, `service_tier: flex`, `priority` and `fast` (the same tier under two names). What a
           tier's prices leave out: calls cost what they cost elsewhere; cached input costs the tier's input, assumed;
           other kinds have no price. Other conditions (`speed`, `route`, `search_type`) are left out.
Cached     Without a cached price: what input costs, assumed.
Free       An id that ends in `:free` and has no price costs nothing; any other without a price is left out.
Long       One threshold, above which every token costs more: as our cards have it. Two thresholds: left out.

Above 300 lines because a fifth of it is this account of what is taken over, which belongs beside the code that does it.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

from genai_prices.data import providers
from genai_prices.types import ClauseEquals, ModelInfo, ModelPrice, Provider, StartDateConstraint, TieredPrices

from rates.catalogue import load_catalogue
from rates.model_name import PROVIDERS, parse_model_name
from rates.money import plain

FOLDER = Path(__file__).parent
CONVERTED = date(2026, 11, 21)
UNKNOWN_START = date(2024, 1, 1)

TOKENS = {
    "input_mtok": "input",
    "cache_read_mtok": "cached_input",
    "cache_write_mtok": "cache_write",
    "input_audio_mtok": "audio_input",
    "cache_audio_read_mtok": "cached_audio_input",
    "input_image_mtok": "image_input",
    "cache_image_read_mtok": "cached_image_input",
    "output_mtok": "output",
    "output_audio_mtok": "audio_output",
    "output_image_mtok": "image_output",
}
CALLS = {"web_searches_kcount": "web_search_calls", "storage_searches_kcount": "file_search_calls"}  # USD a thousand
UNREAD = {"cache_write_1h_mtok"}  # no OpenAI-compatible reply counts these tokens apart
TIERS: Mapping[tuple[str, str], str] = {
    ("processing", "batch"): "batch",
    ("service_tier", "flex"): "flex",
    ("service_tier", "priority"): "priority",
    ("service_tier", "fast"): "priority",
}
DATES = ("2024-01-15", "2025-05-14", "2026-03-31")
MORE_IDS = {  # ids that vendors document, and that only a rule such as "starts with" takes
    ("anthropic", "claude-2"): ("claude-2.0", "claude-2.1"),
    ("anthropic", "claude-sonnet-4-0"): ("claude-sonnet-4-20250514",),
    ("openai", "computer-use"): ("computer-use-preview", "computer-use-preview-2025-03-11"),
}
DISPUTED = {
    ("openai", "gpt-4o-transcribe"): "litellm 1.109.1 has another price for its audio",
    ("openai", "gpt-4o-mini-transcribe"): "litellm 1.109.1 has another price for its audio",
}


_THRESHOLDS = "it has more than one long-context threshold"


class Unsayable(Exception):  # noqa: N818 - a finding about a model, not a fault
    """No card can say this model's price."""


@dataclass(frozen=True)
class Tier:
    """The amounts of one tier over one period, as texts of TOML."""

    amounts: Mapping[str, Decimal]
    long: Mapping[str, Decimal]
    assumed: tuple[str, ...]
    threshold: int | None

    def toml(self) -> str:
        parts = [f'{kind} = "{plain(amount)}"' for kind, amount in self.amounts.items()]
        if self.assumed:
            parts.append(f"assumed = {json.dumps(list(self.assumed))}")
        if self.long:
            inside = ", ".join(f'{kind} = "{plain(amount)}"' for kind, amount in self.long.items())
            parts.append(f"long_context = {{ {inside} }}")
        return f"{{ {', '.join(parts)} }}"


def files() -> dict[str, str]:
    """What this folder holds, by file name."""
    licence = next(file for file in distribution("genai-prices").files or () if file.name == "LICENSE")
    made = {"LICENSE.genai-prices": licence.read_text()}
    shipped = _shipped_ids()
    for provider in providers:
        text = _file(provider, shipped.get(provider.id, frozenset()))
        if text:
            made[f"{provider.id}.toml"] = text
    return made


def _shipped_ids() -> dict[str, frozenset[str]]:
    ids: dict[str, set[str]] = {}
    for card in load_catalogue():
        if not card.fine_tuned:
            ids.setdefault(card.provider, set()).update((card.model, *card.snapshots))
    return {provider: frozenset(each) for provider, each in ids.items()}


def _file(provider: Provider, taken: frozenset[str]) -> str:
    left_out: list[str] = []
    cards: list[str] = []
    claimed = set(taken)
    for model in provider.models:
        ids = [each for each in _ids(provider, model) if (folded := parse_model_name(each).whole) not in claimed]
        claimed.update(folded for each in ids if (folded := parse_model_name(each).whole))
        if not ids:
            continue
        try:
            periods = _periods(provider, model)
        except Unsayable as reason:
            left_out.append(f"# left out: {model.id}: {reason}")
            continue
        for any_date in (False, True):
            group = [each for each in ids if _takes_any_date(provider, model, each) == any_date]
            cards += [_card(group, any_date, start, tiers) for start, tiers in periods if group]
    if not cards:
        return ""
    head = (
        "#:schema ../card.schema.json\n"
        f"# Made by convert.py out of genai-prices {version('genai-prices')} (MIT, LICENSE.genai-prices). Not for"
        " editing:\n# a file of your own (`rate_files`) overrides any card.\n"
    )
    return head + "\n".join(
        [
            *sorted(left_out),
            f"\nprovider = {json.dumps(provider.id)}",
            f'source = "https://github.com/pydantic/genai-prices ({version("genai-prices")})"',
            f"checked = {CONVERTED}\n",
            *cards,
        ]
    )


def _card(ids: list[str], any_date: bool, start: date, tiers: Mapping[str, Tier]) -> str:
    lines = ["[[card]]", f"model = {json.dumps(ids[0])}"]
    if len(ids) > 1:
        lines.append(f"snapshots = {json.dumps(ids[1:])}")
    if any_date:
        lines.append("any_date = true")
    lines.append(f"effective_from = {start}")
    if start == UNKNOWN_START:
        lines.append('assumed = ["effective_from"]')
    lines += [f"{name} = {tier.toml()}" for name, tier in tiers.items()]
    threshold = next((tier.threshold for tier in tiers.values() if tier.threshold is not None), None)
    if threshold is not None:  # the rates above it are printed: nothing is left to multiply
        lines.append(f'long_context = {{ above_prompt_tokens = {threshold}, input_times = "1", output_times = "1" }}')
    return "\n".join(lines) + "\n"


def _ids(provider: Provider, model: ModelInfo) -> list[str]:
    """In the order of its rules; each only once, whatever its case."""
    wanted = (model.id, *_texts(model.match), *MORE_IDS.get((provider.id, model.id), ()))
    found: dict[str, str] = {}
    for each in wanted:
        name = parse_model_name(each)
        if (
            name.fine_tuned
            or each[-1:] in "-@.:/_"
            or re.search(r"-20\d\d$", each)
            or (name.prefix is not None and provider.id in PROVIDERS)
        ):
            continue
        if provider.find_model(each) is model:
            found.setdefault(name.whole, each)
    return list(found.values())


def _texts(rule: Any) -> Iterator[str]:
    for part in (*getattr(rule, "or_", ()), *getattr(rule, "and_", ())):
        yield from _texts(part)
    for kind in ("equals", "starts_with", "ends_with", "contains"):
        if hasattr(rule, kind):
            yield getattr(rule, kind)


def _takes_any_date(provider: Provider, model: ModelInfo, each: str) -> bool:
    rules = getattr(model.match, "or_", [model.match])
    if all(isinstance(rule, ClauseEquals) for rule in rules) or re.search(r"20\d\d(-\d\d-\d\d|\d{4})$", each):
        return False
    forms = [[f"{each}-{day}" for day in DATES], [f"{each}-{day.replace('-', '')}" for day in DATES]]
    found = [[provider.find_model(dated) for dated in form] for form in forms]
    others = [other for form in found for other in form if other is not None and other is not model]
    return not others and any(all(other is model for other in form) for form in found)


def _starts(model: ModelInfo) -> list[date]:
    """When some price of the model begins. The first one may be unknown."""
    prices = model.prices if isinstance(model.prices, list) else []
    conditions = [each.constraint for each in (*prices, *(model.price_variants or ())) if each.constraint is not None]
    starts: set[date] = set()
    for condition in conditions:
        if not isinstance(condition, StartDateConstraint):
            raise Unsayable("its price changes with the time of day")
        starts.add(condition.start_date)
    return sorted(starts if any(start <= UNKNOWN_START for start in starts) else {UNKNOWN_START, *starts})


def _periods(provider: Provider, model: ModelInfo) -> list[tuple[date, dict[str, Tier]]]:
    if reason := DISPUTED.get((provider.id, model.id)):
        raise Unsayable(reason)
    return [(start, _period(model, start)) for start in _starts(model)]


def _period(model: ModelInfo, start: date) -> dict[str, Tier]:
    """The tiers from this day on."""
    standard = _standing(model, start)
    tiers = {"standard": _tier(standard, free=model.id.endswith(":free"))}
    for name in dict.fromkeys(TIERS.values()):
        found = [_overrides(model, start, when) for when, tier in TIERS.items() if tier == name]
        said = [each for each in found if each is not None]
        if not said:
            continue
        if any(each != said[0] for each in said):
            raise Unsayable(f"two prices for the tier {name}")
        tier = _tier_over(standard, said[0])
        if tier is not None:
            tiers[name] = tier
    if len({tier.threshold for tier in tiers.values() if tier.threshold is not None}) > 1:
        raise Unsayable(_THRESHOLDS)
    return tiers


def _standing(model: ModelInfo, start: date) -> ModelPrice:
    if isinstance(model.prices, ModelPrice):
        return model.prices
    holding = [
        each.prices
        for each in model.prices
        if each.constraint is None
        or (isinstance(each.constraint, StartDateConstraint) and each.constraint.start_date <= start)
    ]
    return holding[-1] if holding else model.prices[0].prices  # as genai-prices has it: the last that holds


def _overrides(model: ModelInfo, start: date, when: tuple[str, str]) -> dict[str, Any] | None:
    """What the tier's prices say, first one first; None when nothing is known of the tier then."""
    said: dict[str, Any] | None = None
    for variant in model.price_variants or ():
        begins = variant.constraint.start_date if isinstance(variant.constraint, StartDateConstraint) else None
        if variant.when == dict([when]) and (begins is None or begins <= start):
            said = {key: price for key, price in variant.prices.__dict__.items() if price is not None} | (said or {})
    return said


def _tier(prices: ModelPrice, *, free: bool = False) -> Tier:
    said: dict[str, Any]
    said = {key: price for key, price in prices.__dict__.items() if price is not None and key not in UNREAD}
    if unknown := sorted(said.keys() - TOKENS.keys() - CALLS.keys()):
        raise Unsayable(f"no card can say its {', '.join(unknown)}")
    if free and not said:
        said = {"input_mtok": Decimal(0), "cache_read_mtok": Decimal(0), "output_mtok": Decimal(0)}
    if not said:
        raise Unsayable("it has no price")
    if "input_mtok" not in said:
        raise Unsayable("it has no price for input")
    amounts: dict[str, Decimal] = {}
    long: dict[str, Decimal] = {}
    thresholds: set[int] = set()
    assumed: tuple[str, ...] = ()
    for key, kind in TOKENS.items():
        price = said.get(key)
        if price is None and kind == "cached_input" and "output_mtok" in said:
            price, assumed = said["input_mtok"], (kind,)
        if isinstance(price, TieredPrices):
            amounts[kind] = price.base
            for step in price.tiers:
                long[kind] = step.price
                thresholds.add(step.start)
        elif price is not None:
            amounts[kind] = price
    amounts |= {kind: said[key] / 1000 for key, kind in CALLS.items() if key in said}
    if len(thresholds) > 1:
        raise Unsayable(_THRESHOLDS)
    return Tier(amounts, long, assumed, next(iter(thresholds), None))


def _tier_over(standard: ModelPrice, said: dict[str, Any]) -> Tier | None:
    """A tier's own prices; calls cost the same in every tier. Nothing said: it costs what standard costs."""
    if not said:
        return _tier(standard)
    wanted = {key for key in ("input_mtok", "output_mtok") if getattr(standard, key) is not None}
    if not wanted <= said.keys():
        return None
    calls = {key: price for key, price in standard.__dict__.items() if key in CALLS and price is not None}
    return _tier(ModelPrice(**{**calls, **said}))


def main() -> None:
    made = files()
    for old in FOLDER.glob("*.toml"):
        old.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text, "utf-8")
    sys.stdout.write(f"{len(made) - 1} providers\n")


if __name__ == "__main__":
    main()
