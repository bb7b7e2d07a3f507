"""What `taximeter budgets` can change: `reload`, `raise` and `acknowledge`."""

import argparse
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from proxy.budgets import BudgetBook, Raise, Raises, budget_from
from proxy.cli.durations import coming_moment
from proxy.cli.options import add_config_arguments, add_json_argument, operator, read_config
from proxy.config.budgets import limit_nanos, owner_name
from proxy.config.sources import did_you_mean, toml
from proxy.errors import UsageError
from proxy.reports.amounts import dollars
from proxy.reports.budget_use import rfc3339

if TYPE_CHECKING:
    from proxy.store import Store

RELOAD_SECONDS = 60.0
LONGEST_WHY = 500  # characters
_RELOAD = """\
Make the `serve` of this data directory read its configuration and rate files again, as SIGHUP does; wait until every
worker follows it, and print what changed. What budgets have spent in their running period stays. A configuration that
is wrong changes nothing: exit 2, and the reason."""
_RAISE = """\
Give a budget a higher limit until a moment, for the night when production must go on. It is in force within 5 seconds
in every proxy on this store, ends by itself, and is written down in the store's audit stream: who, when, why."""


_ACKNOWLEDGE = """\
Say that the store which this proxy finds now is the right one. A store that was wiped, or is another one than before,
has lost what budgets have spent; until somebody has looked, those that refuse refuse. From then on they count from what
the store holds. Each proxy is told by itself (its data directory remembers the store), and may go on serving."""


def add_actions(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    reload = actions.add_parser(
        "reload", help="let serve read its configuration again", description=_RELOAD, allow_abbrev=False
    )
    raised = actions.add_parser("raise", help="a higher limit for a time", description=_RAISE, allow_abbrev=False)
    raised.add_argument("name", metavar="NAME", help="the budget, as the configuration names it")
    raised.add_argument("--to", metavar="USD", required=True, help="the limit for that time, above the configured one")
    raised.add_argument("--until", metavar="WHEN", required=True, help="a duration (90m, 12h, 2d), a date or a time")
    raised.add_argument("--why", metavar="TEXT", required=True, help="for who reads the audit later")
    raised.add_argument("--owner", help='of a budget with per = "owner": only this owner')
    known = actions.add_parser(
        "acknowledge",
        help="take a store that was wiped for the right one",
        description=_ACKNOWLEDGE,
        allow_abbrev=False,
    )
    known.add_argument("--why", metavar="TEXT", help="for who reads the audit later")
    for action in (reload, raised, known):
        add_json_argument(action, again=True)
        add_config_arguments(action, again=True)


def _reload(args: argparse.Namespace) -> int:
    config = read_config(args)
    from proxy.server import reloading  # noqa: PLC0415 - imports redis

    outcome = reloading.ask(config.data_dir, RELOAD_SECONDS)
    if outcome.problem is not None:
        raise UsageError(outcome.problem)
    if args.json:
        print(json.dumps({"changes": list(outcome.changes)}, indent=2))
    else:
        print("\n".join(outcome.changes) or "read again; nothing is different")
    return 0


def _raise(args: argparse.Namespace) -> int:
    config = read_config(args)
    now = datetime.now(UTC)
    limit = limit_nanos("--to", args.to)
    until = coming_moment("--until", args.until, now)
    owner = None if args.owner is None else owner_name("--owner", args.owner)
    why = _why(args.why)
    book = BudgetBook(map(budget_from, config.budgets))
    budget = next((budget for budget in book.budgets if budget.name == args.name), None)
    if budget is None:
        names = [budget.name for budget in book.budgets]
        raise UsageError(f"no budget {toml(args.name)} is configured{did_you_mean(args.name, names)}")
    if owner is not None and not budget.per_owner:
        raise UsageError(f'budget {budget.name} has one limit for all (no per = "owner"): leave --owner out')
    if limit <= budget.limit:
        raise UsageError(
            f"--to {dollars(limit)} is no raise: budget {budget.name} has {dollars(budget.limit)}; "
            "a lower limit belongs into the configuration (then: taximeter budgets reload)"
        )
    raised = Raise(budget=budget.name, owner=owner, limit=limit, until=until, who=operator(), why=why, at=now)
    from proxy.cli.reading import with_store  # noqa: PLC0415 - imports redis

    async def write(store: "Store") -> None:
        earlier = Raises(await store.read_raises()).of(budget.name, owner, now)
        before = budget.limit if earlier is None else max(budget.limit, earlier.limit)
        await store.raise_limit(raised, before=before, now=now)

    with_store(config, write)
    if args.json:
        print(json.dumps({"budget": budget.name, "owner": owner, "to_usd": args.to, "until": rfc3339(until)}, indent=2))
    else:
        whose = f" for {owner}" if owner else ""
        print(
            f"budget {budget.name}{whose}: {dollars(limit)} instead of {dollars(budget.limit)} until {rfc3339(until)}"
        )
    return 0


def _acknowledge(args: argparse.Namespace) -> int:
    config = read_config(args)
    why = None if args.why is None else _why(args.why)
    now = datetime.now(UTC)
    from proxy.cli.reading import with_store  # noqa: PLC0415 - imports redis

    is_new = with_store(config, lambda store: store.acknowledge(operator(), why, now), directory=config.data_dir)
    if args.json:
        print(json.dumps({"acknowledged": is_new}, indent=2))
    elif is_new:
        print("the store that is there now is taken for the right one; budgets count from what it holds")
    else:
        print("nothing is to be acknowledged: the store is the one that this proxy knows")
    return 0


def _why(text: str) -> str:
    why = text.strip()
    if not why or len(why) > LONGEST_WHY or not why.isprintable():
        raise UsageError(f"--why: say in one line of 1 to {LONGEST_WHY} characters why")
    return why


ACTIONS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "reload": _reload,
    "raise": _raise,
    "acknowledge": _acknowledge,
}
