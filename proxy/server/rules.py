"""Rules from a configuration: the catalogue is loaded, the budgets are indexed."""

from proxy.admission import Rules
from proxy.budgets import BudgetBook, budget_from
from proxy.config import Config
from rates import load_catalogue


def build_rules(config: Config) -> Rules:
    """Raises CatalogueError when a rate file is wrong: nothing of it is used then."""
    return Rules(
        config=config,
        catalogue=load_catalogue(config.rate_files),
        book=BudgetBook([budget_from(record) for record in config.budgets]),
    )
