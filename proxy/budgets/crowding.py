"""At most so many budgets may match one request: each costs every request that it matches."""

from collections import Counter

from proxy.budgets.glob import example
from proxy.budgets.matching import BudgetBook
from proxy.budgets.owner import ANONYMOUS, Owner
from proxy.errors import ConfigError
from rates import parse_model_name

MOST_ACCOUNTS = 32
_SHOWN = 3


def refuse_crowds(book: BudgetBook) -> None:
    """Raise ConfigError when some request is sure to match more than `MOST_ACCOUNTS` of these budgets.

    Tried are, for each budget, a request by its owner for a model that fits it, and one by the owner that has the most
    budgets for any model. What else comes together (a model that fits globs of several kinds) is seen when it comes.
    """
    if len(book.budgets) <= MOST_ACCOUNTS:
        return
    of_any_model = Counter(budget.owner for budget in book.budgets if budget.owner and budget.model is None)
    busiest = of_any_model.most_common(1)[0][0] if of_any_model else ANONYMOUS.name
    tried: set[tuple[str, str | None]] = set()
    for budget in book.budgets:
        model = None if budget.model is None else example(budget.model)
        asked = (budget.owner or busiest, model)
        if asked not in tried:
            tried.add(asked)
            _try(book, *asked)


def _try(book: BudgetBook, owner: str, model: str | None) -> None:
    kinds = (True, False) if model is None else (parse_model_name(model).fine_tuned,)
    for fine_tuned in kinds:
        budgets = book.budgets_for(Owner.of_identity(owner), (model,) if model else (), fine_tuned)
        if len(budgets) > MOST_ACCOUNTS:
            names = ", ".join(f'"{budget.name}"' for budget in budgets[:_SHOWN])
            what = f'requests of owner "{owner}"' + (f' for model "{model}"' if model else "")
            raise ConfigError(
                f"{len(budgets)} budgets ({names}, …) match all {what}: at most {MOST_ACCOUNTS} may; "
                "join some, or narrow them with owner or model"
            )
