"""What finding a request's budgets costs, with 10 and with 10,000 in the configuration: `python tests/bench/budgets.py`.

Three shapes of configuration: a budget an owner, a budget a model, and a budget a team that all models' names contain.
"Found before" is what a request pays whose owner asked for this model lately; "new" is the first such request.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from proxy.budgets import Budget, BudgetBook, Owner, PeriodKind, refuse_crowds

AT = datetime(2026, 11, 22, 10, tzinfo=UTC)
SHAPES: dict[str, Callable[[int], dict[str, str]]] = {
    "owner": lambda n: {"owner": f"owner-{n}"},
    "model": lambda n: {"model": f"ft:gpt-4o-mini-2024-07-18:acme:app-{n}:*"},
    "inside": lambda n: {"model": f"ft:*:team-{n}:*"},
}
ROUNDS, REPEATS = 2_000, 7


def book_of(shape: str, size: int) -> BudgetBook:
    fields = SHAPES[shape]
    return BudgetBook(
        Budget(name=f"b{n}", limit=1, period=PeriodKind.MONTH, **fields(n))  # type: ignore[arg-type]
        for n in range(size)
    )


def microseconds(work: Callable[[], object]) -> float:
    def once() -> float:
        started = time.perf_counter()
        for _ in range(ROUNDS):
            work()
        return (time.perf_counter() - started) / ROUNDS * 1e6

    return statistics.median(once() for _ in range(REPEATS))


def rows() -> Iterator[str]:
    owner = Owner.of_identity("owner-7")
    names = ("ft:gpt-4o-mini-2024-07-18:acme:app-7:Abc12345", "ft:gpt-4o-mini-2024-07-18:team-7:x:Abc12345")
    yield f"{'shape':10}{'budgets':>9}{'found before, us':>18}{'new, us':>10}{'load, ms':>10}"
    for shape in SHAPES:
        for size in (10, 10_000):
            started = time.perf_counter()
            book = book_of(shape, size)
            refuse_crowds(book)
            load = (time.perf_counter() - started) * 1e3
            assert len(book.matching(owner, names, True, AT)) == 1
            known = microseconds(lambda book=book: book.matching(owner, names, True, AT))  # type: ignore[misc]
            new = microseconds(lambda book=book: book.budgets_for(owner, names, True))  # type: ignore[misc]
            yield f"{shape:10}{size:9,}{known:18.2f}{new:10.2f}{load:10.1f}"


if __name__ == "__main__":
    for row in rows():
        print(row)
