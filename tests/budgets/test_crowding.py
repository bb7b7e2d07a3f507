"""A configuration in which too many budgets match one request is refused where that is sure."""

import pytest

from proxy.budgets import Budget, BudgetBook, PeriodKind, refuse_crowds
from proxy.errors import ConfigError


def book(*groups: tuple[int, dict[str, object]]) -> BudgetBook:
    budgets = []
    for group, (count, fields) in enumerate(groups):
        budgets += [
            Budget(name=f"g{group}-{n}", limit=1, period=PeriodKind.DAY, **fields)  # type: ignore[arg-type]
            for n in range(count)
        ]
    return BudgetBook(budgets)


@pytest.mark.parametrize(
    "groups",
    [
        [(32, {})],
        [(32, {"owner": "acme"}), (32, {"owner": "beta"})],
        [(20, {"fine_tuned": True}), (20, {"fine_tuned": False})],
        [(20, {"model": "gpt-4o"}), (20, {"model": "gpt-4.1"})],
        [(30, {"owner": "acme"}), (30, {"model": "gpt-4o"}), (2, {"owner": "beta"})][::2],
    ],
)
def test_what_fits(groups: list[tuple[int, dict[str, object]]]) -> None:
    refuse_crowds(book(*groups))


@pytest.mark.parametrize(
    ("groups", "what"),
    [
        ([(33, {})], "requests of owner"),
        ([(20, {"owner": "acme"}), (13, {})], 'requests of owner "acme"'),
        ([(20, {"fine_tuned": True}), (13, {})], "requests of owner"),
        ([(33, {"model": "gpt-4o*"})], 'for model "gpt-4o"'),
        ([(20, {"model": "gpt-4o"}), (20, {"model": "gpt-*"})], 'for model "gpt-4o"'),
        ([(20, {"owner": "acme"}), (20, {"model": "gpt-4o"})], 'requests of owner "acme" for model "gpt-4o"'),
        ([(33, {"per_owner": True})], "requests of owner"),
    ],
)
def test_what_is_too_much(groups: list[tuple[int, dict[str, object]]], what: str) -> None:
    with pytest.raises(ConfigError) as refused:
        refuse_crowds(book(*groups))
    assert what in str(refused.value)
    assert "at most 32 may" in str(refused.value)
    assert '"g0-0", "g0-1", "g0-2", …' in str(refused.value)
