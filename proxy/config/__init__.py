"""Configuration: frozen records from flags > environment > TOML. The only room that reads the environment.

records      what the rest of the program sees
load         the sources and their order
sources      where a value came from, and the one form of a complaint about it
keys         which keys exist, and what each may hold
budgets      the same for `[[budget]]`
notify       the same for `[[notify]]`
changes      what differs between two configurations, in words
urls         upstream and redis_url
environment  the process's environment and the platform's directories
"""

from proxy.config.changes import changes
from proxy.config.load import load_config
from proxy.config.records import Address, BudgetConfig, Config, NotifyConfig, Secret

__all__ = ["Address", "BudgetConfig", "Config", "NotifyConfig", "Secret", "changes", "load_config"]
