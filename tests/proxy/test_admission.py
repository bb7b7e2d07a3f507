"""Admission: which accounts, how much, and which answer when it cannot be."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

from proxy.admission import NEAR, Admission, Learned, Rules, mint_entry_id
from proxy.budgets import ANONYMOUS, Account, BudgetBook, Owner, budget_from
from proxy.config import BudgetConfig, Config
from proxy.denials import Denied
from proxy.errors import StoreAway, StoreWiped
from proxy.ledger import LedgerEntry, Moved, Opened, presumed
from proxy.metering import RequestFacts
from proxy.store import Refusal, Store
from rates import load_catalogue
from tests.proxy.admitting import admit

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
OWNER = Owner.of_digest("ab" * 32)
FINE_TUNED = "ft:gpt-4o-mini-2024-07-18:acme::abc123"


@dataclass
class FakeStore:
    """Remembers what was asked of it and answers as it was told."""

    refusal: Refusal | None = None
    away: bool = False
    is_wiped: bool = False
    held: dict[str, list[tuple[str, int | None]]] = field(default_factory=dict)
    later: dict[str, list[tuple[str, int | None]]] = field(default_factory=dict)
    checked: list[str] = field(default_factory=list)
    asked: list[tuple[int | None, int]] = field(default_factory=list)
    left: int | None = None
    ahead: int = 0

    async def hold(self, opened: Opened, accounts: Sequence[Account], *, times: int = 1) -> Refusal | None:
        if self.away:
            raise StoreWiped("wiped") if self.is_wiped else StoreAway("away")
        self.asked.append((opened.nanos, times))
        if self.left is not None:
            limit = accounts[0].budget.limit
            amount = opened.nanos or 0
            return (
                None
                if times * amount <= self.left
                else Refusal.of(accounts[0], amount, limit - self.left - self.ahead, self.ahead)
            )
        self.held[opened.id] = [(account.budget.name, opened.nanos) for account in accounts]
        return self.refusal

    def hold_later(self, opened: Opened, accounts: Sequence[Account]) -> None:
        self.later[opened.id] = [(account.budget.name, opened.nanos) for account in accounts]

    def hold_ahead(self, opened: Opened, accounts: Sequence[Account]) -> bool:
        if self.ahead < (opened.nanos or 0):
            return False
        self.ahead -= opened.nanos or 0
        return True

    def clear_ahead(self, accounts: Sequence[Account]) -> int:
        ahead, self.ahead = self.ahead, 0
        if self.left is not None:
            self.left += ahead
        return ahead

    async def check(self, accounts: Sequence[Account]) -> Refusal | None:
        if self.away:
            raise StoreWiped("wiped") if self.is_wiped else StoreAway("away")
        self.checked += [account.budget.name for account in accounts]
        return self.refusal


def budget(name: str, **fields: object) -> BudgetConfig:
    return BudgetConfig(**{"name": name, "limit_nanos": 10**9, "period": "month", **fields})  # type: ignore[arg-type]


def rules(*budgets: BudgetConfig, **fields: object) -> Rules:
    config = Config(data_dir=Path("/data"), budgets=budgets, **fields)  # type: ignore[arg-type]
    return Rules(config, load_catalogue(), BudgetBook([budget_from(each) for each in budgets]))


def admission(store: FakeStore, learned: Learned | None = None) -> Admission:
    return Admission(cast("Store", store), learned or Learned())


def facts(model: str | None = "gpt-4o-mini", **fields: object) -> RequestFacts:
    return RequestFacts(**{"model": model, "prompt_tokens": 1000, "max_output_tokens": 500, **fields})  # type: ignore[arg-type]


async def test_a_refusing_budget_is_asked_and_the_hold_is_the_asked_models_rate() -> None:
    store = FakeStore()

    admitted = await admit(
        admission(store), rules(budget("all")), "e1", ANONYMOUS, facts(FINE_TUNED), AT, endpoint="chat/completions"
    )

    # 1,000 at $0.30 and 500 at $1.20 a million
    assert store.held == {"e1": [("all", 900_000)]}
    assert [account.key for account in admitted.accounts] == ["all/2026-11"]


async def test_without_a_refusing_budget_the_hold_travels_along() -> None:
    store = FakeStore()

    await admit(
        admission(store),
        rules(budget("all", on_exceed="alert")),
        "e1",
        ANONYMOUS,
        facts(),
        AT,
        endpoint="chat/completions",
    )

    assert (store.held, store.later) == ({}, {"e1": [("all", 450_000)]})


async def test_without_any_budget_nobody_waits_and_the_request_is_told_to_the_store() -> None:
    store = FakeStore(away=True)

    admitted = await admit(
        admission(store), rules(), "e1", ANONYMOUS, facts("unheard-of"), AT, endpoint="chat/completions"
    )

    assert (admitted.accounts, store.later) == ((), {"e1": []})


async def test_what_is_kept_of_a_request_is_enough_to_charge_it() -> None:
    configured = rules(budget("alias", model="gpt-4o-mini"), budget("guess", model="gpt-4o-mini-2024-*"))

    admitted = await admit(
        admission(FakeStore()), configured, "e1", OWNER, facts(), AT, endpoint="responses", client_request_id="c1"
    )
    entry = presumed(cast("Opened", admitted.opened), "died")

    assert [account.budget.name for account in admitted.accounts] == ["alias", "guess"]
    assert entry == LedgerEntry(
        id="e1",
        at="2026-11-21T12:00:00.000Z",
        owner="key-abababab",
        identity=OWNER.identity,
        endpoint="responses",
        asked_model="gpt-4o-mini",
        served_model="gpt-4o-mini",
        tier="standard",
        status="presumed",
        reason="died",
        usage={"input": 1000, "output": 500},
        card=entry.card,
        provenance="family",
        cost_nanos=450_000,
        moved=(Moved("alias", "alias/2026-11", 450_000),),
        client_request_id="c1",
    )


async def test_without_a_price_only_the_prompt_is_kept() -> None:
    admitted = await admit(
        admission(FakeStore()),
        rules(budget("all", on_exceed="alert")),
        "e1",
        ANONYMOUS,
        facts("unheard-of"),
        AT,
        endpoint="completions",
    )
    entry = presumed(cast("Opened", admitted.opened), "died")

    assert (entry.status, entry.cost_nanos, entry.card, entry.usage) == ("unpriced", None, None, {"input": 1000})
    assert entry.moved == (Moved("all", "all/2026-11", 0),)


async def test_a_request_without_a_limit_holds_the_default_output() -> None:
    store = FakeStore()

    await admit(
        admission(store),
        rules(budget("all"), default_output_tokens=2000),
        "e1",
        ANONYMOUS,
        facts(max_output_tokens=None, n=2),
        AT,
        endpoint="chat/completions",
    )

    assert store.held == {"e1": [("all", 1000 * 150 + 2 * 2000 * 600)]}


async def test_budgets_match_the_alias_its_snapshots_the_models_table_and_what_served_lately() -> None:
    learned = Learned()
    learned.note("router", "gpt-4.1-2025-04-14")
    book = rules(
        budget("alias", model="gpt-4o-mini", on_exceed="alert"),
        budget("snapshot", model="gpt-4o-mini-2024-*", on_exceed="alert"),
        budget("mapped", model=f"{FINE_TUNED[:20]}*", on_exceed="alert"),
        budget("served", model="gpt-4.1-*", on_exceed="alert"),
        models={"my-deployment": FINE_TUNED},
    )
    store = FakeStore()

    for model in ("gpt-4o-mini", "my-deployment", "router"):
        await admit(admission(store, learned), book, model, ANONYMOUS, facts(model), AT, endpoint="chat/completions")

    assert {key: [name for name, _ in held] for key, held in store.later.items()} == {
        "gpt-4o-mini": ["alias", "snapshot"],
        "my-deployment": ["mapped"],
        "router": ["served"],
    }


async def test_a_refusal_says_how_much_of_how_much_and_until_when() -> None:
    configured = rules(budget("acme-monthly", limit_nanos=500 * 10**9))
    account = configured.book.matching(ANONYMOUS, (), None, AT)[0]
    store = FakeStore(refusal=Refusal(account, "budget_exceeded", 500 * 10**9, 0))

    with pytest.raises(Denied) as denied:
        await admit(admission(store), configured, "e1", ANONYMOUS, facts(), AT, endpoint="chat/completions")

    assert denied.value.reason == "budget_exceeded"
    assert denied.value.message == "budget acme-monthly: $500.00 of $500.00 used; resets 2026-12-01T00:00:00Z"


@pytest.mark.parametrize("model", ["unheard-of", None, "ft:gpt-5-mini-2025-08-07:acme::abc"])
async def test_what_has_no_price_is_refused_under_a_refusing_budget_or_where_the_operator_says_so(
    model: str | None,
) -> None:
    for configured, name in ((rules(budget("all")), "all"), (rules(unpriced="refuse"), None)):
        with pytest.raises(Denied) as denied:
            await admit(
                admission(FakeStore()), configured, "e1", ANONYMOUS, facts(model), AT, endpoint="chat/completions"
            )
        assert (denied.value.reason, denied.value.budget) == ("model_not_priced", name)


async def test_with_the_store_away_only_a_strict_budget_stands_in_the_way() -> None:
    store = FakeStore(away=True)
    await admit(admission(store), rules(budget("lax")), "e1", ANONYMOUS, facts(), AT, endpoint="chat/completions")
    assert store.later == {"e1": [("lax", 450_000)]}

    strict = rules(budget("lax"), budget("strict", on_store_loss="refuse"))
    for attempt in (
        admit(admission(store), strict, "e1", ANONYMOUS, facts(), AT, endpoint="chat/completions"),
        admission(store).admit_unmetered(strict, "e1", ANONYMOUS, AT, spends=True),
    ):
        with pytest.raises(Denied) as denied:
            await attempt
        assert (denied.value.reason, denied.value.budget) == ("store_unavailable", "strict")


async def test_under_a_store_that_was_wiped_every_refusing_budget_stands_in_the_way() -> None:
    store = FakeStore(away=True, is_wiped=True)
    lax = rules(budget("watch", on_exceed="alert"), budget("lax"))
    for attempt in (
        admit(admission(store), lax, "e1", ANONYMOUS, facts(), AT, endpoint="chat/completions"),
        admission(store).admit_unmetered(lax, "e1", ANONYMOUS, AT, spends=True),
    ):
        with pytest.raises(Denied, match="wiped") as denied:
            await attempt
        assert (denied.value.reason, denied.value.budget) == ("store_unavailable", "lax")
    watched = rules(budget("watch", on_exceed="alert"))
    await admit(admission(store), watched, "e1", ANONYMOUS, facts(), AT, endpoint="chat/completions")


async def test_an_unmetered_request_is_checked_only_when_it_can_spend() -> None:
    store = FakeStore()
    configured = rules(budget("all"), budget("watch", on_exceed="alert"))

    await admission(store).admit_unmetered(configured, "e1", ANONYMOUS, AT, spends=False)
    assert store.checked == []
    await admission(store).admit_unmetered(configured, "e1", ANONYMOUS, AT, spends=True)
    assert store.checked == ["all"]


def test_entry_ids_are_uuid7_and_sort_by_time() -> None:
    ids = [mint_entry_id(AT + timedelta(milliseconds=number)) for number in range(100)]

    assert ids == sorted(ids)
    assert {(uuid.UUID(each).version, uuid.UUID(each).variant) for each in ids} == {(7, uuid.RFC_4122)}
    assert int(ids[0].replace("-", "")[:12], 16) == int(AT.timestamp() * 1000)


def test_learned_names_are_few_and_only_those_that_differ() -> None:
    learned = Learned()
    learned.note("a", "a")
    learned.note(None, "b")
    learned.note("gpt-4o", None)
    for number in range(5000):
        learned.note(f"asked-{number}", "served")

    assert [learned.served_for(name) for name in ("a", "gpt-4o", "asked-0", "asked-4999")] == [
        None,
        None,
        None,
        "served",
    ]


async def admit_near(left: int, tokens: int | None) -> tuple[FakeStore, int | None, list[str | None]]:
    """A request of 1,000 prompt tokens (estimated) and 500 of output, with so much left: $0.00015 and $0.0003."""
    store, counted = FakeStore(left=left), list[str | None]()

    async def count(model: str | None) -> int | None:
        counted.append(model)
        return tokens

    admitted = await admit(
        admission(store), rules(budget("all")), "e1", ANONYMOUS, facts(), AT, endpoint="chat/completions", count=count
    )
    assert admitted.opened is not None
    return store, admitted.opened.nanos, counted


async def test_far_from_the_limit_the_prompt_is_not_counted() -> None:
    store, nanos, counted = await admit_near(NEAR * 450_000, 700)

    assert (nanos, counted, store.asked) == (450_000, [], [(450_000, NEAR)])


async def test_near_the_limit_the_prompt_is_counted_and_held_as_counted() -> None:
    for left in (NEAR * 450_000 - 1, 405_000):
        store, nanos, counted = await admit_near(left, 700)
        assert (nanos, counted) == (405_000, ["gpt-4o-mini"])
        assert store.asked == [(450_000, NEAR), (405_000, 1)]

    with pytest.raises(Denied) as denied:
        await admit_near(404_999, 700)
    assert denied.value.reason == "budget_exceeded"


@pytest.mark.parametrize("tokens", [None, 1000, 5000])
async def test_what_cannot_be_counted_or_is_more_is_held_as_estimated(tokens: int | None) -> None:
    _, nanos, _ = await admit_near(450_000, tokens)

    assert nanos == 450_000
    with pytest.raises(Denied):
        await admit_near(449_999, tokens)


async def test_a_stream_takes_what_was_set_aside_ahead_and_a_whole_reply_does_not() -> None:
    store = FakeStore(ahead=450_000)
    for stream, waits in ((False, True), (True, False), (True, True)):
        admitted = admission(store).prepare(
            rules(budget("all")), "e1", ANONYMOUS, facts(stream=stream), AT, endpoint="chat/completions"
        )
        assert admitted.waits == waits
    budgets = rules(budget("all", on_exceed="alert"))
    admission(store).prepare(budgets, "e2", ANONYMOUS, facts(stream=True), AT, endpoint="chat/completions")
    assert list(store.later) == ["e2"]  # where no budget refuses, nothing is needed ahead


async def test_what_is_set_aside_ahead_refuses_nobody() -> None:
    async def count(_model: str | None) -> int | None:
        return 700

    store = FakeStore(left=5_000, ahead=400_000)
    await admit(
        admission(store), rules(budget("all")), "e1", ANONYMOUS, facts(), AT, endpoint="chat/completions", count=count
    )
    assert store.asked == [(450_000, NEAR), (405_000, 1)]


async def test_where_not_even_the_output_fits_nothing_is_counted() -> None:
    counted: list[object] = []

    async def count(model: str | None) -> int | None:
        counted.append(model)
        return 0

    store = FakeStore(left=299_999)
    with pytest.raises(Denied) as denied:
        await admit(
            admission(store),
            rules(budget("all")),
            "e1",
            ANONYMOUS,
            facts(),
            AT,
            endpoint="chat/completions",
            count=count,
        )
    assert (denied.value.reason, counted, len(store.asked)) == ("budget_exceeded", [], 1)


async def test_more_budgets_than_may_match_refuse_the_request() -> None:
    store = FakeStore()
    crowd = rules(*(budget(f"b{n}", on_exceed="alert") for n in range(33)))

    with pytest.raises(Denied) as denied:
        await admit(admission(store), crowd, "e1", ANONYMOUS, facts(), AT, endpoint="chat/completions")
    assert (denied.value.reason, denied.value.budget) == ("too_many_budgets", "b0")
    assert "33 budgets (b0, b1, b2, …) match this request, and at most 32 may" in denied.value.message
    assert (store.held, store.later) == ({}, {})
