"""`taximeter rates`: what the cards say, what a file of one's own would change, where to look prices up again."""

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.cli.options import add_json_argument, moment, read_config
from proxy.config import Config
from proxy.errors import UsageError
from proxy.reports.rate_cards import card_json, card_notes, change_json, effect_json, rate_text, since
from rates import Catalogue, CatalogueError, NotPriced, RateCard, load_catalogue, parse_model_name
from rates.money import plain
from rates.rate_card import TIERS, UNIT_KINDS
from rates.survey import Selection, changes, check, every_card, holding, sources
from rates.usage import KINDS

if TYPE_CHECKING:
    from proxy.reports.sheet import Column

HELP = """\
The rate cards: which hold, what a model has cost, what a card file of yours would add or override, what changed
between two days, which source was looked at the longest ago. `check` ends with exit code 1 when the file is wrong."""
EXAMPLE = """\
examples:
  taximeter rates list --fine-tuned                  # all fine-tuned models, today
  taximeter rates list 'claude-*' --provider anthropic --at 2026-06-01
  taximeter rates show gpt-5.6-sol
  taximeter rates check my-rates.toml
  taximeter rates diff --from 2026-07-01 --to 2026-11-21
  taximeter rates sources
  taximeter rates schema                             # where the JSON Schema is that editors check card files with"""

_CARDS = "the user's (rate_files) and shipped cards; imported ones only of a --provider, or with --imported"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        action = actions.add_parser(name, help=text, description=text, allow_abbrev=False)
        add_json_argument(action)
        return action

    listed = add("list", f"the cards that hold on a day: {_CARDS}")
    _add_filters(listed)
    listed.add_argument("--tier", choices=TIERS, help="only this tier")
    listed.add_argument("--at", metavar="DATE", help="that day (UTC) or RFC 3339 time (default: now)")
    shown = add("show", "every card of a model, past and to come")
    shown.add_argument("model", metavar="MODEL", help="model id")
    shown.add_argument("--provider", metavar="P", help="whose (default: the configured upstream's, else openai)")
    checked = add("check", "a card file: what it adds, what it overrides, what is wrong")
    checked.add_argument("file", metavar="FILE", help="TOML file, as rate_files has it")
    differing = add("diff", "what changed between two days")
    _add_filters(differing)
    differing.add_argument("--from", dest="before", metavar="DATE", required=True, help="the earlier day or time")
    differing.add_argument("--to", dest="after", metavar="DATE", help="the later day or time (default: now)")
    told = add("sources", "where the prices stand and when somebody looked, the longest ago first")
    _add_filters(told)
    actions.add_parser("schema", help="where the JSON Schema of card files is", allow_abbrev=False)
    for action in (listed, shown, differing, told):
        action.add_argument("--config", metavar="FILE", help="TOML file (TAXIMETER_CONFIG; else ./taximeter.toml)")


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pattern", metavar="GLOB", nargs="?", help="models like this: 'gpt-4o*'")
    parser.add_argument("--provider", metavar="P", action="append", default=[], help="only this one's; may be repeated")
    parser.add_argument("--imported", action="store_true", help="with the imported cards of every provider")
    tuned = parser.add_mutually_exclusive_group()
    tuned.add_argument("--fine-tuned", action="store_const", const=True, default=None, help="only fine-tuned models")
    tuned.add_argument("--base", dest="fine_tuned", action="store_const", const=False, help="only base models")


def run(args: argparse.Namespace) -> int:
    actions = {"list": _list, "show": _show, "check": _check, "diff": _diff, "sources": _sources, "schema": _schema}
    return actions[args.action](args)


def _list(args: argparse.Namespace) -> int:
    at = datetime.now(UTC) if args.at is None else moment("--at", args.at)
    cards = [card for card in holding(*_chosen(args), at) if args.tier in (None, card.tier)]
    if args.json:
        _print({"at": at.isoformat().replace("+00:00", "Z"), "cards": [card_json(card) for card in cards]})
        return 0
    titles = ("model", "provider", "", "tier", "input", "cached", "output", "since", "origin")
    rows = [
        (
            card.model,
            card.provider,
            "fine-tuned" if card.fine_tuned else "base",
            card.tier,
            *(rate_text(card, kind) for kind in ("input", "cached_input", "output")),
            since(card),
            card.origin,
        )
        for card in cards
    ]
    notes = ["USD per million tokens; * is assumed: no source prints it. All kinds: taximeter rates show MODEL."]
    return _table(_columns(titles, numbers=(4, 5, 6)), rows, notes if rows else [f"No card holds at {at:%Y-%m-%d}."])


def _show(args: argparse.Namespace) -> int:
    config = read_config(args)
    catalogue = load_catalogue(config.rate_files)
    name = parse_model_name(config.models.get(args.model, args.model))
    history = [found for found in catalogue.history(name, args.provider or config.provider) if not found.card.resident]
    if not history:
        # The same words as `price` has for it.
        catalogue.find(name, provider=args.provider or config.provider, tier=None, at=datetime.now(UTC))
        raise NotPriced(f"no card prices {args.model}")
    if args.json:
        cards = [{**card_json(found.card), "provenance": found.provenance} for found in history]
        _print({"model": args.model, "base_model": name.base_model, "fine_tuned": name.fine_tuned, "cards": cards})
        return 0
    kinds = [kind for kind in KINDS if any(kind in found.card.rates for found in history)]
    rows = [
        (
            found.card.tier,
            since(found.card),
            str(found.card.effective_to.date()) if found.card.effective_to else "",
            *(rate_text(found.card, kind) for kind in kinds),
            found.provenance,
        )
        for found in history
    ]
    titles = ("tier", "from", "until", *(kind.replace("_", " ") for kind in kinds), "origin")
    head = f"{name.text} at {history[0].card.provider}: USD per million tokens; * is assumed: no source prints it."
    notes = [head, *card_notes([found.card for found in history])]
    return _table(_columns(titles, numbers=range(3, 3 + len(kinds))), rows, notes)


def _check(args: argparse.Namespace) -> int:
    try:
        effects = check(Path(args.file))
    except CatalogueError as error:
        if args.json:
            _print({"file": args.file, "ok": False, "error": str(error), "cards": []})
        sys.stderr.write(f"taximeter: {' '.join(str(error).split())}\n")
        return 1
    if args.json:
        _print({"file": args.file, "ok": True, "error": None, "cards": [effect_json(effect) for effect in effects]})
        return 0
    rows = [
        (
            str(effect.sheet.line),
            effect.sheet.model,
            effect.sheet.provider,
            "fine-tuned" if effect.sheet.fine_tuned else "base",
            "overrides" if effect.overrides else "adds",
            ", ".join(effect.sheet.tiers),
            ", ".join(effect.left_out),
        )
        for effect in effects
    ]
    notes = [f"{args.file} can be used: rate_files = [{json.dumps(args.file)}]"]
    if any(effect.left_out for effect in effects):
        notes.append("Left out: what the overridden card prices and this one does not. Such usage would be unpriced.")
    columns = _columns(("line", "model", "provider", "", "effect", "tiers", "left out"), numbers=(0,))
    return _table(columns, rows, notes)


def _diff(args: argparse.Namespace) -> int:
    before = moment("--from", args.before)
    after = datetime.now(UTC) if args.after is None else moment("--to", args.after)
    if after <= before:
        raise UsageError("--to: must be later than --from")
    found = changes(*_chosen(args), before, after)
    if args.json:
        _print({"changes": [change_json(change) for change in found]})
        return 0
    rows = [
        (
            change.model,
            change.provider,
            "fine-tuned" if change.fine_tuned else "base",
            change.tier,
            change.kind,
            *("none" if amount is None else plain(amount) for amount in (change.before, change.after)),
        )
        for change in found
        if change.kind not in UNIT_KINDS or None not in (change.before, change.after)  # a tier that begins: no news
    ]
    notes = ["USD per million tokens, or each."] if rows else [f"No price changed from {args.before} on."]
    return _table(_columns(("model", "provider", "", "tier", "kind", "before", "after"), numbers=(5, 6)), rows, notes)


def _sources(args: argparse.Namespace) -> int:
    found = sources(*_chosen(args))
    if args.json:
        keys = ("checked", "provider", "source", "cards")
        rows = [(str(each.checked), each.provider, each.source, each.cards) for each in found]
        _print({"sources": [dict(zip(keys, row, strict=True)) for row in rows]})
        return 0
    shown = [(str(each.checked), each.provider, str(each.cards), each.source) for each in found]
    return _table(_columns(("checked", "provider", "cards", "source"), numbers=(2,)), shown, [])


def _schema(_args: argparse.Namespace) -> int:
    import rates  # noqa: PLC0415 - only for where it is

    print(Path(rates.__file__).parent / "cards" / "card.schema.json")
    return 0


def _chosen(args: argparse.Namespace) -> tuple[Sequence[RateCard], Selection]:
    config: Config = read_config(args)
    catalogue: Catalogue = load_catalogue(config.rate_files)
    known = {card.provider for card in catalogue} | set(catalogue.imported_providers)
    for provider in args.provider:
        if provider not in known:
            raise UsageError(f'--provider "{provider}": there are cards of {", ".join(sorted(known))}')
    imported = catalogue.imported_providers if args.imported else args.provider
    pattern = args.pattern.removeprefix("ft:") if args.pattern else None
    fine_tuned = True if args.pattern and args.pattern.startswith("ft:") else args.fine_tuned
    return list(every_card(catalogue, imported=imported)), Selection(args.provider, fine_tuned, pattern)


def _columns(titles: Sequence[str], numbers: Sequence[int]) -> "list[Column]":
    from proxy.reports.sheet import Column  # noqa: PLC0415 - imports much: not for --json

    return [Column(title, number=position in numbers) for position, title in enumerate(titles)]


def _table(columns: "Sequence[Column]", rows: Sequence[Sequence[str]], notes: Sequence[str]) -> int:
    from proxy.reports.render import show  # noqa: PLC0415 - imports rich
    from proxy.reports.sheet import Sheet  # noqa: PLC0415

    show(Sheet(columns if rows else (), rows, notes=notes))
    return 0


def _print(document: object) -> None:
    print(json.dumps(document, indent=2))
