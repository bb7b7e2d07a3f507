"""What was parked is charged with its own time, owner and id, once, as soon as the store can say what it was."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from proxy import background
from proxy.admission import Admitted, Learned, Rules
from proxy.background import Background
from proxy.budgets import Account, BudgetBook, Owner, budget_from
from proxy.config import BudgetConfig, Config
from proxy.errors import StoreAway
from proxy.ledger import LedgerEntry, Opened, Parked
from proxy.metering import Reading
from proxy.metrics import Metrics
from proxy.settlement import Settlement
from proxy.store import Store
from rates import Usage, load_catalogue
from tests.store.cases import opened

AT = datetime(2026, 10, 31, 23, 59, tzinfo=UTC)
OWNER = Owner.of_digest("ab" * 32)
USAGE = Usage(input=1000, output=500)
MODEL = "gpt-4o-mini-2024-07-18"


@dataclass
class FakeStore:
    """`answers`: what each question for what is parked gets; then nothing is."""

    answers: list[list[Parked] | StoreAway] = field(default_factory=list)
    kept: list[tuple[str, Parked]] = field(default_factory=list)
    settled: list[tuple[LedgerEntry, list[str], str]] = field(default_factory=list)

    is_charged_elsewhere: bool = False

    def park(self, upstream_id: str, parked: Parked, opened: Opened) -> None:
        assert opened.id == parked.entry_id
        self.kept.append((upstream_id, parked))

    async def parked(self, _upstream_id: str) -> list[Parked]:
        answer = self.answers.pop(0) if self.answers else []
        if isinstance(answer, StoreAway):
            raise answer
        return answer

    def settle(
        self, entry: LedgerEntry, accounts: Sequence[Account], *, parked: str, on_charged: Callable[[], object]
    ) -> None:
        self.settled.append((entry, [account.key for account in accounts], parked))
        if not self.is_charged_elsewhere:
            on_charged()


class Bench:
    def __init__(self) -> None:
        budget = BudgetConfig(name="all", limit_nanos=10**9, period="month")
        config = Config(data_dir=Path("/data"), budgets=(budget,))
        self.rules = Rules(config, load_catalogue(), BudgetBook([budget_from(budget)]))
        self.store = FakeStore()
        self.registry = CollectorRegistry()
        self.settlement = Settlement(cast("Store", self.store), Metrics(self.registry), Learned())
        self.background = Background(cast("Store", self.store), self.settlement)

    def park(self, entry_id: str = "e1") -> Parked:
        settled = self.settlement.charge(
            Admitted(entry_id, AT, OWNER, "gpt-4o-mini", (), self.rules, opened(entry_id)),
            "responses",
            reading("pending", Usage(input=12)),
            upstream_status=200,
            client_request_id="c1",
            latency_ms=5,
        )
        self.settlement.settle(settled)
        upstream_id, parked = self.store.kept[-1]
        assert upstream_id == "resp_1"
        return parked

    async def collect(self, *answers: list[Parked] | StoreAway, end: Reading | None = None) -> None:
        self.store.answers = list(answers)
        await self.background.collect(self.rules, end or reading())
        assert not self.store.answers


def reading(status: Any = "reported", usage: Usage = USAGE) -> Reading:
    return Reading(status, None, MODEL, usage, "default", "resp_1")


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "PAUSES", (0.0, 0.0, 0.0))


async def test_it_is_charged_as_if_it_had_come_at_once() -> None:
    bench = Bench()
    parked = bench.park()
    assert (bench.store.settled, bench.registry.get_sample_value("taximeter_unpriced_requests_total")) == ([], None)

    await bench.collect([parked])

    [(entry, accounts, claim)] = bench.store.settled
    assert (entry.id, entry.at, entry.owner) == ("e1", "2026-10-31T23:59:00.000Z", OWNER.name)
    assert (entry.asked_model, entry.served_model, entry.cost_nanos) == ("gpt-4o-mini", MODEL, 450_000)
    assert (entry.endpoint, entry.client_request_id, entry.upstream_id) == ("responses", "c1", "resp_1")
    assert (accounts, claim) == (["all/2026-10"], "resp_1")


async def test_readings_that_follow_are_not_counted_again_by_the_same_worker() -> None:
    bench = Bench()
    parked = bench.park()
    for _ in range(3):  # the store has not applied the first one yet
        await bench.collect([parked])
    assert len(bench.store.settled) == 1
    tokens = bench.registry.get_sample_value(
        "taximeter_tokens_total",
        {"owner": OWNER.name, "model": MODEL, "base_model": "gpt-4o-mini", "fine_tuned": "false", "kind": "input"},
    )
    assert tokens == 1000


async def test_what_another_worker_has_charged_is_not_counted_here() -> None:
    bench = Bench()
    bench.store.is_charged_elsewhere = True
    await bench.collect([bench.park()])
    assert len(bench.store.settled) == 1
    assert not [family for family in bench.registry.collect() if family.name == "taximeter_tokens" and family.samples]


async def test_it_waits_for_a_store_that_is_away_and_for_what_is_on_its_way() -> None:
    bench = Bench()
    parked = bench.park()
    await bench.collect(StoreAway("away"), [], [parked])
    assert len(bench.store.settled) == 1


async def test_what_nobody_parked_is_nobodys_charge() -> None:
    bench = Bench()
    await bench.collect([], [], [])
    await bench.background.collect(bench.rules, Reading("reported", None, MODEL, Usage(input=1), None, None))
    assert bench.store.settled == []


async def test_all_that_end_with_one_response_are_charged() -> None:
    bench = Bench()
    await bench.collect([bench.park("e1"), bench.park("e2")])
    assert [entry.id for entry, _, _ in bench.store.settled] == ["e1", "e2"]


async def test_one_that_comes_to_the_store_a_moment_later_is_charged_too() -> None:
    bench = Bench()
    first, second = bench.park("e1"), bench.park("e2")
    await bench.collect([first], [first, second])
    assert [entry.id for entry, _, _ in bench.store.settled] == ["e1", "e2"]


async def test_an_end_that_says_nothing_is_estimated_from_the_request() -> None:
    bench = Bench()
    await bench.collect([bench.park()], end=reading("estimated", Usage(output=8)))
    [(entry, _, _)] = bench.store.settled
    assert (entry.status, entry.usage) == ("estimated", {"input": 12, "output": 8})


async def test_a_failure_costs_nothing_and_gives_the_hold_back() -> None:
    bench = Bench()
    await bench.collect([bench.park()], end=reading("failed", Usage()))
    [(entry, _, claim)] = bench.store.settled
    assert (entry.status, entry.cost_nanos, claim) == ("failed", 0, "resp_1")
