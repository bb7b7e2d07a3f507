"""A plan is what would be found anew: at every moment, under every set of rules, for whoever asks for what."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from dataclasses import replace as changed
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from proxy import plans
from proxy.admission import Admission, Learned
from proxy.budgets import Account, BudgetBook, Owner, Raise, Raises, budget_from
from proxy.config import BudgetConfig, Config
from proxy.denials import Denied
from proxy.ledger import LedgerEntry, LineText, Opened, OpenedText
from proxy.metering import Reading, RequestFacts
from proxy.metrics import Metrics
from proxy.plans import Rules
from proxy.settlement import Settlement
from proxy.store import Store
from proxy.store.finished import Charge
from proxy.store.operations import Hold
from rates import Catalogue, Usage, load_catalogue

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
FINE_TUNED = "ft:gpt-4o-mini-2024-07-18:acme::abc123"
OWNERS = (Owner("acme", "acme"), Owner("rival", "rival"), Owner.of_digest("ab" * 32))
BUDGETS = (
    BudgetConfig(
        name="days", limit_nanos=10**12, period="day", timezone="Asia/Kolkata", model="gpt-4o", on_exceed="alert"
    ),
    BudgetConfig(name="months", limit_nanos=10**12, period="month", owner="acme", on_exceed="alert"),
    BudgetConfig(
        name="each", limit_nanos=10**12, period="week", per="owner", model="gpt-4o-mini-2024-*", on_exceed="alert"
    ),
    BudgetConfig(name="tuned", limit_nanos=10**12, period="total", fine_tuned=True, on_exceed="alert"),
)
CARD_CHANGES = (datetime(2026, 11, 30, tzinfo=UTC), datetime(2026, 12, 1, 10, 30, tzinfo=UTC))
RATES = """
provider = "openai"
""" + "".join(
    f"""
[[card]]
model = "gpt-4o-mini"
snapshots = ["gpt-4o-mini-2024-07-18"]
fine_tuned = false
effective_from = {begins}
source = "contract 7"
checked = 2026-12-05
standard = {{ input = "{rate}", cached_input = "0", output = "0.0005" }}
"""
    for begins, rate in (
        ("2026-11-30", "0.3"),
        ("2026-12-01T10:30:00Z", "0.0005"),
    )
)
EDGES = (
    *CARD_CHANGES,
    datetime(2026, 11, 22, 18, 30, tzinfo=UTC),  # midnight in Kolkata
    datetime(2026, 11, 23, tzinfo=UTC),  # Monday
    datetime(2026, 12, 1, tzinfo=UTC),  # another month
    datetime(2026, 12, 5, tzinfo=UTC),  # the cards were checked
)
MODELS = ("gpt-4o-mini", "gpt-4o-mini-2024-07-18", "gpt-4o", FINE_TUNED, "unheard-of", "deployed")


@dataclass
class NoStore:
    """Takes everything, and remembers the last."""

    held: list[Opened | OpenedText] = field(default_factory=list)
    settled: list[LedgerEntry | LineText] = field(default_factory=list)

    def hold_later(self, opened: Opened | OpenedText, accounts: Sequence[Account]) -> None:
        self.held = [opened]

    def settle(self, entry: LedgerEntry | LineText, accounts: Sequence[Account]) -> None:
        self.settled = [entry]


class Counter:
    """Admission and settlement with memories of their own; the rules decide what is planned."""

    def __init__(self) -> None:
        self.store, self.learned = NoStore(), Learned()
        store = cast("Store", self.store)
        self.admission = Admission(store, self.learned)
        self.settlement = Settlement(store, Metrics(CollectorRegistry()), self.learned)

    def request(
        self, rules: Rules, owner: Owner, facts: RequestFacts, reading: Reading, at: datetime
    ) -> tuple[object, ...]:
        """Everything that becomes of a request: what is held for it, what is charged, to whom."""
        try:
            admitted = self.admission.prepare(
                rules, "e1", owner, facts, at, endpoint="chat/completions", client_request_id="c"
            )
        except Denied as denied:
            return (str(denied),)
        assert admitted.held is not None
        settled = self.settlement.charge(
            admitted, "chat/completions", reading, upstream_status=200, client_request_id="c", latency_ms=1
        )
        return (
            Hold(admitted.held, admitted.accounts, times=4).payload,
            admitted.accounts,
            settled.entry,
            settled.labels.values,
            settled.cost_nanos,
            Charge(settled.line, settled.accounts).body,
            Charge(settled.entry, settled.accounts).body,
        )


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    file = tmp_path_factory.mktemp("rates") / "my.toml"
    file.write_text(RATES)
    return load_catalogue([file])


def rules_of(catalogue: Catalogue, *budgets: BudgetConfig, **fields: object) -> Rules:
    config = Config(
        data_dir=Path("/data"),
        budgets=budgets,
        models={"deployed": "gpt-4o-mini"},
        **fields,  # type: ignore[arg-type]
    )
    return Rules(config, catalogue, BudgetBook([budget_from(each) for each in budgets]))


def reading_of(model: str | None, usage: Usage, status: str, tier: str | None = None) -> Reading:
    return Reading(status, "no_usage" if status == "estimated" else None, model, usage, tier, "up")  # type: ignore[arg-type]


@st.composite
def requests_around(draw: st.DrawFn) -> list[tuple[Owner, RequestFacts, Reading, datetime]]:
    """Requests of few kinds, so that many are alike, around one moment at which something changes."""
    edge = draw(st.sampled_from(EDGES))
    moments = st.sampled_from([edge + timedelta(microseconds=step) for step in (-1, 0, 1)])
    asked, served = (draw(st.lists(st.sampled_from((*MODELS, None)), min_size=1, max_size=2)) for _ in range(2))
    owners = draw(st.lists(st.sampled_from(OWNERS), min_size=1, max_size=2))
    tiers = draw(st.lists(st.sampled_from([None, "priority", "mystery"]), min_size=1, max_size=2))
    facts = st.builds(
        RequestFacts,
        model=st.sampled_from(asked),
        service_tier=st.sampled_from(tiers),
        prompt_tokens=st.integers(0, 3),
        max_output_tokens=st.sampled_from([None, 0, 1, 20_000]),
        n=st.integers(1, 2),
    )
    usage = st.builds(
        Usage, input=st.integers(0, 3), output=st.integers(0, 3), unknown_tool_calls=st.sampled_from([0, 0, 1])
    )
    statuses = draw(st.lists(st.sampled_from(["reported", "estimated", "presumed", "failed", "pending"]), min_size=1))
    readings = st.builds(reading_of, st.sampled_from(served), usage, st.sampled_from(statuses), st.sampled_from(tiers))
    return draw(st.lists(st.tuples(st.sampled_from(owners), facts, readings, moments), min_size=2, max_size=10))


@given(requests_around())
def test_planned_or_found_anew_a_request_costs_the_same(
    catalogue: Catalogue, requests: list[tuple[Owner, RequestFacts, Reading, datetime]]
) -> None:
    """Also where moments come in any order, as they do when a clock is set or a request is late."""
    kept, planned, anew = rules_of(catalogue, *BUDGETS), Counter(), Counter()
    for owner, facts, reading, at in requests:
        assert planned.request(kept, owner, facts, reading, at) == anew.request(
            rules_of(catalogue, *BUDGETS), owner, facts, reading, at
        )
        planned.learned.note(facts.model, reading.model)
        anew.learned.note(facts.model, reading.model)


FACTS = RequestFacts(model="gpt-4o-mini", prompt_tokens=1000, max_output_tokens=500)
READING = reading_of("gpt-4o-mini-2024-07-18", Usage(input=1000, output=500), "reported")


def costs(
    counter: Counter, rules: Rules, at: datetime, facts: RequestFacts = FACTS, reading: Reading = READING
) -> tuple[int | None, int | None, list[str]]:
    """What is held, what is charged, and to which accounts."""
    admitted = counter.admission.prepare(rules, "e1", OWNERS[0], facts, at, endpoint="chat/completions")
    settled = counter.settlement.charge(
        admitted, "chat/completions", reading, upstream_status=200, client_request_id=None, latency_ms=1
    )
    assert admitted.opened is not None
    return admitted.opened.nanos, settled.cost_nanos, [moved.period for moved in settled.entry.moved]


def test_a_card_ends_at_its_moment_for_what_was_planned_before(catalogue: Catalogue) -> None:
    rules, counter = rules_of(catalogue), Counter()
    before, after = 1000 * 150 + 500 * 600, 1000 * 300  # half a nano a token is rounded once: 250
    for begins, cheap, dear in ((CARD_CHANGES[0], before, after + 250), (CARD_CHANGES[1], after + 250, 750)):
        for step, nanos in ((-1, cheap), (0, dear), (-1, cheap), (1, dear)):
            assert costs(counter, rules, begins + timedelta(microseconds=step)) == (nanos, nanos, [])


def test_a_period_ends_at_its_moment_for_what_was_planned_before(catalogue: Catalogue) -> None:
    rules, counter = rules_of(catalogue, BUDGETS[1]), Counter()
    month = datetime(2026, 12, 1, tzinfo=UTC)
    for step, key in ((-1, "months/2026-11"), (0, "months/2026-12"), (-1, "months/2026-11")):
        assert costs(counter, rules, month + timedelta(microseconds=step))[2] == [key]


def test_a_request_is_settled_in_the_period_and_at_the_card_of_its_own_start(catalogue: Catalogue) -> None:
    rules, counter = rules_of(catalogue, BUDGETS[1]), Counter()
    late = counter.admission.prepare(
        rules, "e1", OWNERS[0], FACTS, CARD_CHANGES[0] - timedelta(seconds=1), endpoint="chat/completions"
    )
    costs(counter, rules, datetime(2026, 12, 2, tzinfo=UTC))
    settled = counter.settlement.charge(
        late, "chat/completions", READING, upstream_status=200, client_request_id=None, latency_ms=1
    )
    assert (settled.cost_nanos, [each.key for each in settled.accounts]) == (450_000, ["months/2026-11"])


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("served", MODELS)
@pytest.mark.parametrize("asked", ["gpt-4o-mini", "unheard-of", None])
def test_what_was_found_before_an_edge_is_not_used_behind_it(
    catalogue: Catalogue, asked: str | None, served: str, edge: datetime
) -> None:
    """Asked and served models have other cards and other budgets: each of them has edges of its own."""
    kept, planned, anew = rules_of(catalogue, *BUDGETS), Counter(), Counter()
    facts, reading = RequestFacts(model=asked, prompt_tokens=9), reading_of(served, Usage(input=9), "reported")
    for step in (-1, 0, -1):
        at = edge + timedelta(microseconds=step)
        assert planned.request(kept, OWNERS[0], facts, reading, at) == anew.request(
            rules_of(catalogue, *BUDGETS), OWNERS[0], facts, reading, at
        )


def test_a_raise_lifts_a_limit_and_ends_by_itself(catalogue: Catalogue) -> None:
    refusing = BudgetConfig(name="all", limit_nanos=100, period="month")
    rules, counter = rules_of(catalogue, refusing), Counter()
    until = AT + timedelta(hours=1)
    raised = Raise(budget="all", owner=None, limit=10**6, until=until, who="w", why="y", at=AT)

    def limit(under: Rules, at: datetime) -> int:
        admitted = counter.admission.prepare(under, "e1", OWNERS[0], FACTS, at, endpoint="chat/completions")
        assert admitted.waits
        return admitted.accounts[0].budget.limit

    assert limit(rules, AT) == 100
    lifted = changed(rules, book=rules.book.with_raises(Raises([raised])))
    assert [limit(lifted, until + timedelta(microseconds=step)) for step in (-1, 0, -1)] == [10**6, 100, 10**6]
    assert not lifted.plans
    assert limit(changed(lifted, book=lifted.book.with_raises(Raises())), AT) == 100


def test_new_rules_know_nothing_of_the_plans_of_old_ones(catalogue: Catalogue) -> None:
    old, counter = rules_of(catalogue, BUDGETS[1]), Counter()
    assert costs(counter, old, AT)[2] == ["months/2026-11"]
    new = changed(old, book=BudgetBook([]), config=changed(old.config, models={"gpt-4o-mini": "gpt-4o"}))
    assert costs(counter, new, AT) == (7_500_000, 7_500_000, [])
    assert costs(counter, old, AT) == (450_000, 450_000, ["months/2026-11"])


def test_a_name_that_is_learned_matches_from_then_on(catalogue: Catalogue) -> None:
    snapshot = BudgetConfig(name="new", limit_nanos=10**9, period="month", model="surprise-*", on_exceed="alert")
    rules, counter = rules_of(catalogue, snapshot), Counter()

    def matched() -> list[str]:
        admitted = counter.admission.prepare(rules, "e1", OWNERS[0], FACTS, AT, endpoint="chat/completions")
        return [account.budget.name for account in admitted.accounts]

    for served, names in (("surprise-1", ["new"]), ("other", []), ("surprise-2", ["new"])):
        counter.learned.note("gpt-4o-mini", served)
        assert matched() == names


@pytest.fixture
def few_plans(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(plans, "_PLANS_KEPT", 5)
    return 5


def test_plans_are_few_whatever_is_asked(catalogue: Catalogue, few_plans: int) -> None:
    rules, counter = rules_of(catalogue, BUDGETS[1]), Counter()
    for number in range(20):
        facts = changed_facts(f"model-{number}")
        costs(counter, rules, AT, facts, reading_of("gpt-4o-mini", Usage(input=number), "reported"))
        assert costs(counter, rules, AT) == (450_000, 450_000, ["months/2026-11"])
        assert len(rules.plans) <= few_plans
    costs(counter, rules, AT, changed_facts("x" * 1000))
    assert all(len(key[2] or "") < 1000 for key in rules.plans)


def test_endings_of_a_plan_are_few_whatever_an_upstream_calls_itself(catalogue: Catalogue) -> None:
    rules, counter = rules_of(catalogue), Counter()
    for number in range(100):
        reading = reading_of(f"ft:gpt-4o-mini-2024-07-18:acme::{number}", Usage(input=1), "reported")
        assert costs(counter, rules, AT, FACTS, reading)[1] == 300
    [plan] = rules.plans.values()
    assert 0 < len(plan.terms) < 20


def test_a_fine_tune_shows_its_name_once_an_answer_vouches_for_it(catalogue: Catalogue) -> None:
    rules, counter = rules_of(catalogue), Counter()
    facts = changed_facts(FINE_TUNED)

    def model_of(served: str | None) -> str:
        admitted = counter.admission.prepare(rules, "e1", OWNERS[0], facts, AT, endpoint="chat/completions")
        reading = reading_of(served, Usage(input=1), "reported")
        settled = counter.settlement.charge(
            admitted, "chat/completions", reading, upstream_status=200, client_request_id=None, latency_ms=1
        )
        return settled.labels.model

    assert [model_of(None), model_of(FINE_TUNED), model_of(None)] == ["other", FINE_TUNED, FINE_TUNED]


def test_usage_without_a_rate_vouches_for_no_model(catalogue: Catalogue) -> None:
    rules, counter = rules_of(catalogue), Counter()
    facts = changed_facts(FINE_TUNED)

    def labelled(usage: Usage) -> tuple[str, int | None]:
        admitted = counter.admission.prepare(rules, "e1", OWNERS[0], facts, AT, endpoint="chat/completions")
        settled = counter.settlement.charge(
            admitted,
            "chat/completions",
            reading_of(FINE_TUNED, usage, "reported"),
            upstream_status=200,
            client_request_id=None,
            latency_ms=1,
        )
        return settled.labels.model, settled.cost_nanos

    assert labelled(Usage(unknown_tool_calls=1)) == ("other", None)
    assert labelled(Usage(input=1)) == (FINE_TUNED, 300)


def changed_facts(model: str) -> RequestFacts:
    return RequestFacts(model=model, prompt_tokens=1000, max_output_tokens=500)
