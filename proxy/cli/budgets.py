"""`taximeter budgets`: each configured budget in its current period, as the store has it."""

import argparse
import json
from datetime import UTC, datetime

from proxy.budgets.account import Account
from proxy.budgets.budget import Budget, budget_from
from proxy.budgets.owner import Owner
from proxy.budgets.period import Period, period_at
from proxy.cli.options import add_config_arguments, add_json_argument, read_config
from proxy.config import Config
from proxy.reports.budget_use import BudgetUse, budgets_json

HELP = """\
Each budget of the configuration: what is used, held and allowed in its current period, and when it starts anew.
A budget with per = "owner" has a row for each owner who has spent or holds something."""
EXAMPLE = """\
examples:
  taximeter budgets
  taximeter budgets --config /etc/taximeter/taximeter.toml --json"""

NO_BUDGETS = """\
No budgets are configured. Add one to {file}:

[[budget]]
name = "all-monthly"
limit_usd = "500"
period = "month"          # day, week, month or total"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json_argument(parser)
    add_config_arguments(parser)


def run(args: argparse.Namespace) -> int:
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
    from proxy.store import Store  # noqa: PLC0415

    budgets = [(budget, period_at(budget.period, budget.timezone, now)) for budget in map(budget_from, config.budgets)]

    async def read(store: Store) -> list[BudgetUse]:
        accounts: list[Account] = []
        for budget, period in budgets:
            if budget.per_owner:
                owners = await store.owners_of(budget, period)
                accounts += [Account(budget, period, identity) for identity in sorted(owners)]
            else:
                accounts.append(Account(budget, period))
        standings = await store.read_accounts(accounts) if accounts else []
        found: dict[str, list[BudgetUse]] = {budget.name: [] for budget, _ in budgets}
        for standing in standings:
            account = standing.account
            use = _use(account.budget, account.period, standing.spent, standing.held, account.owner_identity)
            found[account.budget.name].append(use)
        return [use for budget, period in budgets for use in _rows(budget, period, found[budget.name])]

    return with_store(config, read)


def _rows(budget: Budget, period: Period, uses: list[BudgetUse]) -> list[BudgetUse]:
    """A budget is always shown, even when no owner has an account in this period yet."""
    return sorted(uses, key=lambda use: -use.spent) or [_use(budget, period, 0, 0, None)]


def _use(budget: Budget, period: Period, spent: int, held: int, identity: str | None) -> BudgetUse:
    return BudgetUse(
        name=budget.name,
        period=period.kind.value,
        limit=budget.limit,
        spent=spent,
        held=held,
        resets_at=period.end,
        alert_at=budget.alert_at,
        per="owner" if budget.per_owner else None,
        owner=None if identity is None else Owner.of_identity(identity).name,
    )
