"""`taximeter ledger`: what is written down for good: look at it, take it home, check it, price it again."""

import argparse
import json
import sys
from datetime import datetime
from pathlib import Path

from proxy.cli.ledger_look import audit, show, tail, verify
from proxy.cli.options import add_config_arguments, add_json_argument, moment, read_config
from proxy.errors import UsageError
from proxy.reports.ledger_export import FORMATS

HELP = """\
The ledger: an entry for each attempt that reached an upstream. Nothing in it is ever edited: a correction is two more
lines with the same id, one that takes the entry back and one that says what is true instead, so that every sum over
lines is right. What is older than `ledger_days` is kept in sums only."""
EXAMPLE = """\
examples:
  taximeter ledger tail -n 50 --follow
  taximeter ledger show 019aa6b2-4c1f-7d3e-9a51-0c6b2f4e8d17
  taximeter ledger export --format csv --since 2026-11-01 --until 2026-12-01 -o november.csv
  taximeter ledger verify
  taximeter ledger reprice --since 2026-11-01 --with my-rates.toml
  taximeter ledger audit

`taximeter ledger ACTION --help` tells more about each."""

_LINES = {
    "tail": "the last entries",
    "show": "every line of one entry, and its charge line by line",
    "export": "entries and corrections as JSON lines, CSV or Parquet",
    "verify": "do budgets and day sums follow from the ledger?",
    "reprice": "what past traffic costs on other cards",
    "audit": "who changed budgets or the ledger, when and why",
}
_TEXTS = {
    "tail": """\
The last entries and corrections; with --follow also those to come. --json: an object a line.""",
    "show": """\
Every line of one entry, what is in force of it, and how its cost comes about where its rate card is known.""",
    "export": """\
Entries and corrections of the requests that began in a span of time. A file appears when it is whole.
Corrections are lines of their own: sum over all lines. In CSV, text that a spreadsheet would take for a
formula has an apostrophe in front. Parquet needs pyarrow (pip install 'taximeter[parquet]').""",
    "verify": """\
Adds budgets, holds and day sums up again from entries, from the sums of trimmed entries and from what budgets
began with, while the store goes on working. Ends with exit code 1 at the first difference, and says which.""",
    "reprice": """\
What the requests that began in a span of time cost on today's cards and [models] table, or with a card file over
them; unpriced ones included. --apply writes corrections: sums move, and the budgets that the entries moved (but those
whose periods ended 90 days ago), nothing is edited, and a second run finds nothing to change.""",
    "audit": """\
What people changed: budgets that were raised, stores that were acknowledged, entries that were re-priced.""",
}
_EXAMPLES = {
    "tail": "tail -n 50 --follow",
    "show": "show 019aa6b2-4c1f-7d3e-9a51-0c6b2f4e8d17",
    "export": "export --format parquet --since 2026-11-01 --until 2026-12-01 -o november.parquet",
    "verify": "verify --json",
    "reprice": "reprice --since 2026-11-01 --with my-rates.toml --apply",
    "audit": "audit --json",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    made = {}
    for name, line in _LINES.items():
        made[name] = actions.add_parser(
            name,
            help=line,
            description=_TEXTS[name],
            epilog=f"example:\n  taximeter ledger {_EXAMPLES[name]}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
    made["tail"].add_argument("-n", metavar="N", type=int, default=20, help="how many (default: 20)")
    made["tail"].add_argument("-f", "--follow", action="store_true", help="go on with what comes, until Ctrl-C")
    made["show"].add_argument("id", metavar="ID", help="the entry's id, as the x-taximeter-entry header has it")
    made["export"].add_argument("--format", choices=FORMATS, default="jsonl", help="default: jsonl")
    made["export"].add_argument("-o", "--output", metavar="FILE", help="default: stdout")
    _add_span(made["export"], required=False)
    _add_span(made["reprice"], required=True)
    made["reprice"].add_argument(
        "--with", dest="cards", metavar="FILE", help="card file, over rate_files and all others"
    )
    made["reprice"].add_argument("--apply", action="store_true", help="write the corrections")
    made["reprice"].add_argument(
        "--presumed", action="store_true", help="also entries that cost what was held, because nobody lived to tell"
    )
    for name, action in made.items():
        if name != "export":
            add_json_argument(action)
        add_config_arguments(action)


def _add_span(parser: argparse.ArgumentParser, *, required: bool) -> None:
    default = "" if required else " (default: all that is kept)"
    parser.add_argument("--since", metavar="D", required=required, help=f"date in UTC, or RFC 3339 time{default}")
    parser.add_argument("--until", metavar="D", help="not included (default: now)")


def run(args: argparse.Namespace) -> int:
    actions = {"tail": tail, "show": show, "verify": verify, "audit": audit, "export": _export, "reprice": _reprice}
    return actions[args.action](args)


def _span(args: argparse.Namespace) -> tuple[datetime | None, datetime | None]:
    since = None if args.since is None else moment("--since", args.since)
    until = None if args.until is None else moment("--until", args.until)
    if since is not None and until is not None and until <= since:
        raise UsageError(f"--until {args.until}: must be later than --since {args.since}; it is not included itself")
    return since, until


def _export(args: argparse.Namespace) -> int:
    since, until = _span(args)
    config = read_config(args)
    if args.output is None and args.format == "parquet" and sys.stdout is not None and sys.stdout.isatty():
        raise UsageError("--format parquet is not for a terminal: add -o FILE")
    from proxy.cli.ledger_export import export  # noqa: PLC0415 - imports redis: not for a wrong argument

    return export(config, args.format, None if args.output is None else Path(args.output), since, until)


def _reprice(args: argparse.Namespace) -> int:
    since, until = _span(args)
    assert since is not None
    config = read_config(args)
    from proxy.cli.ledger_reprice import reprice, result_json, result_sheet  # noqa: PLC0415 - imports redis

    cards = None if args.cards is None else Path(args.cards)
    result = reprice(config, since, until, cards=cards, presumed=args.presumed, apply=args.apply)
    if args.json:
        print(json.dumps(result_json(result), indent=2))
        return 0
    from proxy.reports.render import show as draw  # noqa: PLC0415 - imports rich

    draw(result_sheet(result))
    return 0
