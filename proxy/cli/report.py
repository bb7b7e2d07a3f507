"""`taximeter report`: what was spent, from the store's day sums."""

import argparse
import json
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from proxy.cli.options import add_config_arguments, add_json_argument, read_config
from proxy.config.sources import did_you_mean
from proxy.errors import UsageError
from proxy.reports.spending import GROUP_KEYS, group

HELP = """\
Cost and tokens of what went through taximeter, from the ledger's sums of each UTC day.
What no rate card prices is counted and has no cost: unknown is never shown as zero."""
EXAMPLE = """\
examples:
  taximeter report
  taximeter report --by model,owner --since 2026-11-01 --until 2026-11-16
  taximeter report --by day --json"""

EARLIEST = date(2020, 1, 1)  # no ledger is older: a day that cannot have sums is not asked for
CLOCK_SKEW = timedelta(days=2)  # past today: a proxy whose clock is ahead, in the last minutes of a day

_RFC3339 = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d{1,6})?([Zz]|[+-]\d{2}:\d{2})", re.ASCII)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    keys = ",".join(GROUP_KEYS)
    parser.add_argument("--by", metavar="KEYS", default="model", help=f"some of {keys} (default: model)")
    parser.add_argument(
        "--since", metavar="DATE", help="first day, YYYY-MM-DD in UTC (default: the first of this month)"
    )
    parser.add_argument(
        "--until",
        metavar="DATE",
        help="the day after the last one (default: tomorrow). Sums are kept a day: a full RFC 3339 time counts as "
        "the start of its day in UTC",
    )
    add_json_argument(parser)
    add_config_arguments(parser)


def run(args: argparse.Namespace) -> int:
    by = group_keys(args.by)
    today = datetime.now(UTC).date()
    since, until = days(args.since, args.until, today)
    config = read_config(args)
    from proxy.cli.reading import with_store  # noqa: PLC0415 - imports redis: not for --help or a wrong argument

    first, end = max(since, EARLIEST), min(until, today + CLOCK_SKEW)
    rows = with_store(config, lambda store: store.read_sums(first, end)) if first < end else []
    report = group(rows, by, config.models)
    if args.json:
        print(json.dumps(report.as_json(), indent=2))
        return 0
    from proxy.reports.render import show  # noqa: PLC0415 - imports rich
    from proxy.reports.sheet import spending_sheet  # noqa: PLC0415

    show(spending_sheet(report, since, until))
    return 0


def group_keys(text: str) -> Sequence[str]:
    """`model,owner` as keys, each once, in the order given. Raises UsageError."""
    keys = list(dict.fromkeys(word.strip().replace("-", "_") for word in text.split(",")))
    for key in keys:
        if key not in GROUP_KEYS:
            raise UsageError(f'--by "{key}": is none of {", ".join(GROUP_KEYS)}{did_you_mean(key, GROUP_KEYS)}')
    return keys


def days(since: str | None, until: str | None, today: date) -> tuple[date, date]:
    """The days [since, until). Without `since`: the month of the last day. Raises UsageError."""
    end = today + timedelta(days=1) if until is None else _day("--until", until)
    if since is None:
        last = min(today, end - timedelta(days=1)) if end > date.min else end
        start = last.replace(day=1)
    else:
        start = _day("--since", since)
    if start >= end:
        if until is None:
            raise UsageError(f"--since {start}: lies in the future (today is {today} in UTC)")
        raise UsageError(f"--until {end}: must be after --since {start}; the day of --until itself is not included")
    return start, end


def _day(flag: str, text: str) -> date:
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text)
        if _RFC3339.fullmatch(text):
            return datetime.fromisoformat(text.upper()).astimezone(UTC).date()
    except (ValueError, OverflowError) as error:
        raise UsageError(f'{flag} "{text}": is no date of the calendar ({error})') from None
    raise UsageError(f'{flag} "{text}": write a date as YYYY-MM-DD, or a time as 2026-11-22T00:00:00Z')
