"""`taximeter budgets`: each configured budget in its current period, as the store has it; and what changes budgets."""

import argparse
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from proxy.budgets import Budget, BudgetBook, Owner, Period, Raises, budget_from
from proxy.budgets.forecast import used_up_at
from proxy.cli import budget_changes
from proxy.cli.options import add_config_arguments, add_json_argument, read_config
from proxy.config import Config
from proxy.reports.budget_use import BudgetUse, budgets_json

if TYPE_CHECKING:
    from proxy.store import Store

HELP = """\
Each budget of the configuration: what is used, held and allowed in its current period, when it will be used up at the
pace of the period so far, and when it starts anew. A budget with per = "owner" has a row for each owner who has spent
or holds something.

With an action: read the configuration again, raise a limit for the night when production must go on, or say that a
store which was wiped is the right one."""
EXAMPLE = """\
examples:
  taximeter budgets
  taximeter budgets --config /etc/taximeter/taximeter.toml --json
  taximeter budgets reload
  taximeter budgets raise acme-monthly --to 800 --until 12h --why 'launch night'"""

NO_BUDGETS = """\
No budgets are configured. Add one to {file}:

[[budget]]
name = "all-monthly"
limit_usd = "500"
period = "month"          # day, week, month or total"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json_argument(parser)
    add_config_arguments(parser)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=False)
    budget_changes.add_actions(actions)


def run(args: argparse.Namespace) -> int:
    if args.action is not None:
        return budget_changes.ACTIONS[args.action](args)
    config = read_config(args)
    now = datetime.now(UTC)
    uses = read_uses(config, now) if config.budgets else []
    if args.json:
        print(json.dumps(budgets_json(uses), indent=2))
        return 0
    if not uses:
        print(NO_BUDGETS.format(file=config.source or "taximeter.toml (or the file that TAXIMETER_CONFIG names)"))
        return 0
    from proxy.reports.render import show  # noqa: PLC0415 - imports rich
    from proxy.reports.sheet import budget_sheet  # noqa: PLC0415

    show(budget_sheet(uses, now))
    return 0


def read_uses(config: Config, now: datetime) -> list[BudgetUse]:
    """Every budget's standing at this moment, in the configuration's order, owners by what they spent."""
    from proxy.cli.reading import with_store  # noqa: PLC0415 - imports redis

    plain = BudgetBook(map(budget_from, config.budgets))

    async def read(store: "Store") -> list[BudgetUse]:
        raises = Raises(await store.read_raises())
        uses: dict[str, list[BudgetUse]] = {budget.name: [] for budget in plain.budgets}
        for standing in await store.standings(plain.with_raises(raises), now):
            account = standing.account
            use = _use(account.budget, account.period, standing.spent, standing.held, now)
            identity = account.owner_identity
            owner = None if identity is None else Owner.of_identity(identity).name
            raised = raises.of(account.budget.name, identity, now)
            uses[account.budget.name].append(replace(use, owner=owner, raised=raised))
        return [use for budget in plain.budgets for use in _rows(plain, budget, uses[budget.name], now)]

    return with_store(config, read)


def _rows(book: BudgetBook, budget: Budget, uses: list[BudgetUse], now: datetime) -> list[BudgetUse]:
    """A budget is always shown, even when no owner has an account in this period yet."""
    return sorted(uses, key=lambda use: -use.spent) or [_use(budget, book.period(budget, now), 0, 0, now)]


def _use(budget: Budget, period: Period, spent: int, held: int, now: datetime) -> BudgetUse:
    return BudgetUse(
        name=budget.name,
        period=period.kind.value,
        limit=budget.limit,
        spent=spent,
        held=held,
        resets_at=period.end,
        alert_at=budget.alert_at,
        per="owner" if budget.per_owner else None,
        used_up_at=used_up_at(spent, budget.limit, period, now),
    )
