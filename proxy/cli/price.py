"""`taximeter price`: what a request of a model costs, line by line, and on whose word."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from proxy.cli.api_usage import typed_count, usage_from_counts, usage_from_json
from proxy.cli.options import add_json_argument, moment, read_config
from proxy.errors import UsageError
from proxy.reports.rate_cards import charge_json
from rates import Catalogue, Charge, Found, ModelName, NotPriced, Usage, load_catalogue, parse_model_name, price
from rates.model_name import PROVIDERS
from rates.money import plain, usd_text
from rates.rate_card import TIERS, UNIT_KINDS, tier_named
from rates.usage import KINDS

HELP = """\
What a request of a model costs. Tokens are counted as the API counts them: cached ones inside the prompt,
reasoning inside the completion. Without tokens: the model's rates. A model that no card prices: exit code 1."""
EXAMPLE = """\
examples:
  taximeter price ft:gpt-4o-mini-2024-07-18:acme::abc123 --prompt-tokens 1000 --completion-tokens 500
  taximeter price gpt-4.1 --tier batch --at 2026-11-21
  taximeter price azure/gpt-4o-mini --usage '{"prompt_tokens": 1000, "completion_tokens": 500}' --json
  taximeter price gpt-5.4 --prompt-tokens 1000 --calls web_search=2 --data-residency
  taximeter price groq/llama-3.3-70b-versatile --prompt-tokens 1000"""

_SERVICE_TIERS = (*TIERS, "auto", "default", "fast", "scale", "ultrafast")
_TOOLS = {kind.rpartition("_")[0]: kind for kind in KINDS if kind in UNIT_KINDS}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="model id, fine-tuned or not; a provider/ prefix works too")
    parser.add_argument("--provider", metavar="P", help="whose price (default: the configured upstream's, else openai)")
    parser.add_argument("--prompt-tokens", metavar="N", help="tokens of the prompt, cached ones included")
    parser.add_argument("--cached-tokens", metavar="N", help="how many of the prompt's tokens came from the cache")
    parser.add_argument("--completion-tokens", metavar="N", help="tokens of the answer, reasoning included")
    parser.add_argument(
        "--calls",
        metavar="TOOL=N",
        action="append",
        default=[],
        help=f"calls or sessions of a tool, as often as there are tools: {', '.join(_TOOLS)}",
    )
    parser.add_argument("--usage", metavar="JSON", help="the usage object of a reply, instead of the counts above")
    parser.add_argument("--tier", metavar="T", help=f"service tier: {', '.join(_SERVICE_TIERS)} (default: standard)")
    parser.add_argument(
        "--data-residency",
        action="store_true",
        help="at an endpoint such as eu.api.openai.com (default: if the configured upstream is one)",
    )
    parser.add_argument("--at", metavar="DATE", help="the price of that day (UTC) or RFC 3339 time (default: now)")
    parser.add_argument("--rates", metavar="FILE", action="append", default=[], help="a card file of your own, as well")
    parser.add_argument("--config", metavar="FILE", help="TOML file (TAXIMETER_CONFIG; else ./taximeter.toml if there)")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    usage = _usage(args)
    at = datetime.now(UTC) if args.at is None else moment("--at", args.at)
    if args.tier is not None and args.tier not in _SERVICE_TIERS:
        raise UsageError(f'--tier "{args.tier}": is none of {", ".join(_SERVICE_TIERS)}')
    asked = parse_model_name(args.model)
    config = read_config(args)
    name = parse_model_name(config.models.get(asked.text, asked.text))
    if args.provider in PROVIDERS and name.provider not in (None, args.provider):
        raise UsageError(f"--provider {args.provider}: {name} says {name.provider}; give one of the two")
    catalogue = load_catalogue((*config.rate_files, *map(Path, args.rates)))
    provider, name = _whose(catalogue, name, args.provider, config.provider)
    resident = args.data_residency or config.data_residency
    try:
        found = catalogue.find(name, provider=provider, tier=args.tier, at=at, resident=resident)
        charge = price(usage or Usage(), found.card)
    except NotPriced:
        if args.json:
            print(json.dumps(_head(asked, name, _tier(args.tier)) | _no_price(), indent=2))
        raise
    if args.json:
        print(json.dumps(_head(asked, name, found.card.tier) | _priced(found, charge), indent=2))
    else:
        _show(name, found, charge, with_lines=usage is not None)
    return 0


def _whose(catalogue: Catalogue, name: ModelName, given: str | None, configured: str) -> tuple[str, ModelName]:
    """The provider to ask, and the id to ask it for: `groq/…` says groq, unless the upstream itself has such an id."""
    head, slash, rest = name.text.partition("/")
    if given is not None or not slash or head not in catalogue.imported_providers or head in PROVIDERS:
        return given or configured, name
    return (configured, name) if catalogue.knows(name, configured) else (head, parse_model_name(rest))


def _usage(args: argparse.Namespace) -> Usage | None:
    """None when nothing was given: then only the rates are asked for."""
    counts: Sequence[str | None] = (args.prompt_tokens, args.cached_tokens, args.completion_tokens)
    given = any(count is not None for count in counts)
    if args.usage is not None and given:
        raise UsageError("--usage: stands for the token counts; give either")
    if args.usage is None and not given and not args.calls:
        return None
    tokens = usage_from_json(args.usage) if args.usage is not None else usage_from_counts(*counts)
    calls = dict(_calls(text) for text in args.calls)
    return msgspec.structs.replace(tokens, **calls)


def _calls(text: str) -> tuple[str, int]:
    tool, _, number = text.partition("=")
    if tool not in _TOOLS:
        raise UsageError(f'--calls "{text}": write TOOL=N; tools: {", ".join(_TOOLS)}')
    return _TOOLS[tool], typed_count(f"--calls {tool}=", number)


def _tier(service_tier: str | None) -> str | None:
    """The tier as cards name it, or the API's own word where no card has it."""
    try:
        return tier_named(service_tier)
    except NotPriced:
        return service_tier


def _head(asked: ModelName, name: ModelName, tier: str | None) -> dict[str, Any]:
    head = {"model": asked.text, "base_model": name.base_model, "fine_tuned": name.fine_tuned, "tier": tier}
    return head if name.text == asked.text else head | {"priced_as": name.text}


def _no_price() -> dict[str, Any]:
    return {"provenance": None, "rate_card": None, "cost_usd": None, "cost_nanos": None, "lines": []}


def _priced(found: Found, charge: Charge) -> dict[str, Any]:
    card = found.card
    return {
        "provenance": found.provenance,
        "assumed": found.assumed or charge.assumed,
        "rate_card": card.id,
        "provider": card.provider,
        "source": card.source,
        "checked": card.checked.isoformat(),
        "shutdown": card.shutdown.isoformat() if card.shutdown else None,
        "long_context": charge.long_context,
        "data_residency": card.resident,
        "rates": {kind: plain(rate) for kind, rate in {**card.rates, **card.unit_rates}.items()},
        "cost_usd": usd_text(charge.nanos),
        "cost_nanos": charge.nanos,
        "lines": charge_json(charge),
    }


def _show(name: ModelName, found: Found, charge: Charge, *, with_lines: bool) -> None:
    from proxy.reports.render import show  # noqa: PLC0415 - imports rich: not for --json or a wrong argument
    from proxy.reports.sheet import Column, Sheet, charge_sheet  # noqa: PLC0415

    card = found.card
    notes = [
        f"{name.text}: {card.tier} tier at {card.provider}; card {card.id} ({found.provenance}).",
        f"Checked on {card.checked}: {card.source}",
    ]
    if charge.long_context:
        notes.append("The prompt is above the long-context threshold: the whole request costs more.")
    if card.resident:
        notes.append(
            f"At a data-residency endpoint: tokens cost {plain(card.residency_times or Decimal(1))} times as much."
        )
    if found.assumed:
        notes.append("Assumed: that this price held then already. Nobody printed when it began.")
    if charge.assumed:
        kinds = ", ".join(line.kind for line in charge.lines if line.kind in card.assumed)
        notes.append(f"Assumed: the rate of {kinds}. No price page prints it.")
    if card.hosting is not None and card.hosting.usd_per_hour:
        region = f" ({card.hosting.note})" if card.hosting.note else ""
        notes.append(f"Its deployment costs ${plain(card.hosting.usd_per_hour)} an hour besides{region}.")
    if card.shutdown is not None:
        notes.append(f"Shutdown at {card.provider}: {card.shutdown}.")
    if not with_lines:
        rates = [(kind, f"${plain(rate)}") for kind, rate in card.rates.items()]
        units = [(kind, f"${plain(rate)} each") for kind, rate in card.unit_rates.items()]
        show(Sheet((Column("kind"), Column("USD per 1M tokens", number=True)), rates + units, None, notes))
        return
    show(replace(charge_sheet(charge), notes=notes))
