"""A raise lifts a limit until its moment, for each owner or for one, and never lowers it."""

from datetime import UTC, datetime, timedelta

from proxy.budgets import Budget, BudgetBook, Owner, PeriodKind, Raise, Raises

AT = datetime(2026, 11, 22, 10, tzinfo=UTC)
UNTIL = AT + timedelta(hours=8)
ACME = Owner.of_identity("acme")
KEY = Owner.of_digest("1a2b3c4d" + "0" * 56)


def raised(limit: int, *, budget: str = "b", owner: str | None = None) -> Raise:
    return Raise(budget=budget, owner=owner, limit=limit, until=UNTIL, who="ann@host", why="launch", at=AT)


def limit_of(book: BudgetBook, owner: Owner = ACME, at: datetime = AT) -> int:
    return book.matching(owner, (), None, at)[0].budget.limit


def book(*, per_owner: bool = False) -> BudgetBook:
    return BudgetBook([Budget(name="b", limit=100, period=PeriodKind.MONTH, per_owner=per_owner)])


def test_it_holds_until_its_moment_and_ends_by_itself() -> None:
    plain = book()
    lifted = plain.with_raises(Raises([raised(250)]))

    assert (limit_of(lifted), limit_of(lifted, at=UNTIL), limit_of(plain)) == (250, 100, 100)
    assert limit_of(lifted) == 250
    assert plain.matching(ACME, (), None, AT)[0].key == lifted.matching(ACME, (), None, AT)[0].key
    assert limit_of(lifted.with_raises(Raises())) == 100


def test_a_higher_limit_in_the_configuration_stays_and_other_budgets_are_not_concerned() -> None:
    assert limit_of(book().with_raises(Raises([raised(99)]))) == 100
    assert limit_of(book().with_raises(Raises([raised(250, budget="other")]))) == 100


def test_one_owners_raise_goes_before_the_one_for_each() -> None:
    lifted = book(per_owner=True).with_raises(
        Raises([raised(250), raised(900, owner="acme"), raised(400, owner=KEY.name)])
    )

    assert [limit_of(lifted, owner) for owner in (ACME, KEY, Owner.of_identity("beta"))] == [900, 400, 250]
    by_identity = book(per_owner=True).with_raises(Raises([raised(300, owner=KEY.identity)]))
    assert [limit_of(by_identity, owner) for owner in (ACME, KEY)] == [100, 300]
