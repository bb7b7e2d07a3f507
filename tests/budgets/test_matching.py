"""Which accounts a request belongs to."""

import re
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.budgets import ANONYMOUS, Account, Budget, BudgetBook, Owner, Period, PeriodKind, period_at

ACME = Owner("acme", "acme")
KEY = Owner.of_digest("1a2b3c4d" + "0" * 56)
AT = datetime(2026, 11, 22, 10, tzinfo=UTC)


def budget(name: str = "b", *, owner: str | None = None, model: str | None = None, per_owner: bool = False) -> Budget:
    return Budget(name=name, limit=10**9, period=PeriodKind.MONTH, owner=owner, model=model, per_owner=per_owner)


def names_of(accounts: tuple[Account, ...]) -> list[str]:
    return [account.budget.name for account in accounts]


def matches(model: str, *names: str) -> bool:
    return bool(BudgetBook([budget(model=model)]).matching(ACME, names, None, AT))


def test_a_budget_without_conditions_matches_everything() -> None:
    book = BudgetBook([budget()])
    assert names_of(book.matching(ANONYMOUS, (), None, AT)) == ["b"]


def test_owners_are_matched_by_shown_name_or_whole_identity() -> None:
    book = BudgetBook([budget("a", owner="acme"), budget("k", owner=KEY.name), budget("i", owner=KEY.identity)])
    assert names_of(book.matching(ACME, (), None, AT)) == ["a"]
    assert names_of(book.matching(KEY, (), None, AT)) == ["k", "i"]
    assert names_of(book.matching(ANONYMOUS, (), None, AT)) == []


def test_accounts_come_in_the_order_of_the_configuration() -> None:
    book = BudgetBook([budget("z", owner="acme"), budget("a"), budget("m", owner="acme")])
    assert names_of(book.matching(ACME, (), None, AT)) == ["z", "a", "m"]


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("gpt-4o", "gpt-4o", True),
        ("gpt-4o", "gpt-4o-mini", False),
        ("gpt-4o", "GPT-4o", False),
        ("gpt-4o*", "gpt-4o", True),
        ("gpt-4o*", "ft:gpt-4o", False),
        ("ft:gpt-4o-mini*", "ft:gpt-4o-mini-2024-07-18:acme::abc123", True),
        ("*mini*", "ft:gpt-4o-mini-2024-07-18:acme::abc123", True),
        ("gpt-?o", "gpt-4o", True),
        ("gpt-?o", "gpt-o", False),
        ("*a*b", "ab-a", False),
        ("*aa", "aaa", True),
        ("a*a", "a", False),
        ("**", "", True),
        ("gpt-[45]o", "gpt-4o", False),
        ("gpt-[45]o", "gpt-[45]o", True),
        ("gpt.4", "gptx4", False),
        ("a*", "a\nb", True),
        ("", "", True),
        ("", "x", False),
    ],
)
def test_globs(pattern: str, name: str, expected: bool) -> None:
    assert matches(pattern, name) is expected


@given(st.text(alphabet="ab*?", max_size=8), st.text(alphabet="ab", max_size=10))
def test_globs_agree_with_the_plain_definition(pattern: str, name: str) -> None:
    plain = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    assert matches(pattern, name) is bool(re.fullmatch(plain, name, re.DOTALL))


def test_a_glob_with_many_stars_stays_fast_on_a_long_name() -> None:
    started = time.perf_counter()
    assert not matches("*a" * 30 + "*b", "a" * 20_000)
    assert time.perf_counter() - started < 1


def test_one_fitting_name_is_enough() -> None:
    assert matches("gpt-4o-2024-*", "gpt-4o", "gpt-4o-2024-08-06")
    assert not matches("gpt-4o-2024-*", "gpt-4o")
    assert not matches("*")


def test_an_unknown_fine_tuned_matches_only_budgets_that_do_not_ask() -> None:
    book = BudgetBook(
        [
            Budget(name=name, limit=1, period=PeriodKind.DAY, fine_tuned=wanted)
            for name, wanted in (("tuned", True), ("base", False), ("any", None))
        ]
    )
    assert names_of(book.matching(ACME, (), True, AT)) == ["tuned", "any"]
    assert names_of(book.matching(ACME, (), False, AT)) == ["base", "any"]
    assert names_of(book.matching(ACME, (), None, AT)) == ["any"]


def test_a_limit_per_owner_gives_each_identity_its_account() -> None:
    book = BudgetBook([budget(per_owner=True)])
    twin = Owner(KEY.name, KEY.identity[:-1] + "1")
    keys = {book.matching(owner, (), None, AT)[0].key for owner in (ACME, KEY, twin, ANONYMOUS)}
    assert len(keys) == 4


def test_the_period_follows_the_moment_also_backwards() -> None:
    book = BudgetBook([budget()])
    ids = [book.matching(ACME, (), None, datetime(2026, month, 1, tzinfo=UTC))[0].period.id for month in (11, 12, 11)]
    assert ids == ["2026-11", "2026-12", "2026-11"]


def test_two_budgets_cannot_share_a_name() -> None:
    with pytest.raises(ValueError, match="same name"):
        BudgetBook([budget(), budget()])


def test_ten_thousand_budgets_of_others_cost_a_request_nothing() -> None:
    book = BudgetBook([budget(f"b{n}", owner=f"owner-{n}") for n in range(10_000)])
    small = BudgetBook([budget("b7", owner="owner-7")])
    owner = Owner("owner-7", "owner-7")
    assert book.matching(owner, ("gpt-4o",), False, AT) == small.matching(owner, ("gpt-4o",), False, AT)

    # Not by the clock: what is looked at is the owner's own alone.
    looked_at = [*book._of_anybody.candidates(()), *book._of_owner["owner-7"].candidates(())]
    assert [condition.budget.name for condition in looked_at] == ["b7"]


@given(st.tuples(st.text(min_size=1), st.text(min_size=1)), st.tuples(st.text(min_size=1), st.text(min_size=1)))
def test_different_accounts_have_different_keys(one: tuple[str, str], other: tuple[str, str]) -> None:
    period = period_at(PeriodKind.DAY, "UTC", AT)

    def key(name: str, owner: str) -> str:
        return Account(budget(name, per_owner=True), period, owner).key

    assert (key(*one) == key(*other)) is (one == other)


def test_a_key_is_plain_text_and_the_series_is_its_beginning() -> None:
    period = Period(PeriodKind.DAY, "2026-11-22", None, None)
    account = Account(budget("a b/ü\n{}", per_owner=True), period, "acme/2")
    assert account.key == "a%20b%2F%C3%BC%0A%7B%7D/2026-11-22/acme%2F2"
    assert account.key.startswith(account.series + "/")
    assert Account(budget("plain"), period).key == "plain/2026-11-22"


def test_an_account_has_an_owner_exactly_when_the_limit_is_per_owner() -> None:
    period = Period(PeriodKind.TOTAL, "total", None, None)
    with pytest.raises(ValueError, match="per owner"):
        Account(budget(), period, "acme")
    with pytest.raises(ValueError, match="per owner"):
        Account(budget(per_owner=True), period)
