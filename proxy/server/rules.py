"""Rules from a configuration: the catalogue is loaded, the budgets are indexed."""

from proxy.admission import Rules
from proxy.budgets import BudgetBook, budget_from, refuse_crowds
from proxy.config import Config
from rates import load_catalogue


def build_rules(config: Config) -> Rules:
    """Raises CatalogueError when a rate file is wrong, ConfigError when too many budgets match the same requests."""
    book = BudgetBook([budget_from(record) for record in config.budgets])
    refuse_crowds(book)
    return Rules(config=config, catalogue=load_catalogue(config.rate_files), book=book)
