"""Settlement: a reading becomes an entry at the served model's rate, on the budgets that its names match."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, cast

import pytest
from prometheus_client import CollectorRegistry

from proxy.admission import Admitted, Learned, Rules
from proxy.budgets import ANONYMOUS, Account, BudgetBook, budget_from
from proxy.config import BudgetConfig, Config
from proxy.ledger import LedgerEntry, Moved
from proxy.metering import Ending, Meter, Reading, endpoint_of, read_request
from proxy.metrics import Metrics
from proxy.settlement import Settled, Settlement, count_entry
from proxy.store import Store
from rates import Usage, load_catalogue

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
FINE_TUNED = "ft:gpt-4o-mini-2024-07-18:acme::abc123"
USAGE = Usage(input=1000, output=500)


@dataclass
class FakeStore:
    settled: list[tuple[LedgerEntry, list[str]]] = field(default_factory=list)
    released: list[str] = field(default_factory=list)

    def settle(self, entry: LedgerEntry, accounts: Sequence[Account]) -> None:
        self.settled.append((entry, [account.key for account in accounts]))

    def release(self, entry_id: str) -> None:
        self.released.append(entry_id)


class Bench:
    """A settlement with a fake store and real metrics, cards and budgets."""

    def __init__(self, *budgets: BudgetConfig, **fields: object) -> None:
        config = Config(data_dir=Path("/data"), budgets=budgets, **fields)  # type: ignore[arg-type]
        self.rules = Rules(config, load_catalogue(), BudgetBook([budget_from(each) for each in budgets]))
        self.store = FakeStore()
        self.registry = CollectorRegistry()
        self.learned = Learned()
        self.settlement = Settlement(cast("Store", self.store), Metrics(self.registry), self.learned)

    def settle(self, asked: str | None, reading: Reading) -> LedgerEntry:
        accounts = self.rules.book.matching(ANONYMOUS, [asked] if asked else (), None, AT)
        settled: Settled = self.settlement.charge(
            Admitted("e1", AT, ANONYMOUS, asked, accounts, self.rules),
            "chat/completions",
            reading,
            upstream_status=200,
            client_request_id="c1",
            latency_ms=7,
        )
        self.settlement.settle(settled)
        return settled.entry

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"taximeter_{name}", labels)


def reading(
    model: str | None,
    usage: Usage = USAGE,
    status: Literal["reported", "estimated", "presumed", "failed"] = "reported",
    reason: str | None = None,
    tier: str | None = None,
) -> Reading:
    return Reading(status, reason, model, usage, tier, "chatcmpl-1")


def budget(name: str, **fields: object) -> BudgetConfig:
    return BudgetConfig(**{"name": name, "limit_nanos": 10**9, "period": "month", **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "served", "nanos", "provenance"),
    [
        (FINE_TUNED, FINE_TUNED, 900_000, "exact"),
        ("gpt-4o-mini", "gpt-4o-mini-2024-07-18", 450_000, "exact"),
        ("gpt-4o-mini", None, 450_000, "family"),
    ],
)
def test_the_served_model_is_priced_and_the_asked_one_where_none_is_named(
    asked: str, served: str | None, nanos: int, provenance: str
) -> None:
    entry = Bench(budget("all")).settle(asked, reading(served))

    assert (entry.cost_nanos, entry.provenance, entry.status) == (nanos, provenance, "reported")
    assert (entry.asked_model, entry.served_model) == (asked, served or asked)
    assert [(moved.budget, moved.period, moved.nanos) for moved in entry.moved] == [("all", "all/2026-11", nanos)]
    assert (entry.upstream_id, entry.client_request_id, entry.at) == ("chatcmpl-1", "c1", "2026-11-21T12:00:00.000Z")


def test_a_data_residency_endpoint_costs_more_where_the_card_says_so() -> None:
    bench = Bench(data_residency=True)

    entry = bench.settle("gpt-5.4", reading("gpt-5.4-2026-03-05", Usage(input=1000, web_search_calls=1)))

    assert entry.cost_nanos == 2_750_000 + 10_000_000
    assert entry.card == "openai/gpt-5.4/standard/2024-01-01/residency"
    assert bench.settle(FINE_TUNED, reading(FINE_TUNED)).cost_nanos == 900_000


def test_the_models_table_decides_over_what_the_response_says() -> None:
    azure = "gpt-4o-mini-2024-07-18.ft-0123456789abcdef0123456789abcdef"
    bench = Bench(models={"acme-classifier": azure})

    entry = bench.settle("acme-classifier", reading("gpt-4o-mini-2024-07-18"))

    assert entry.served_model == azure
    assert entry.card is not None
    assert entry.card.startswith("azure")


def test_what_no_card_prices_keeps_its_tokens_and_costs_none() -> None:
    bench = Bench(budget("all", on_exceed="alert"))

    entry = bench.settle("ft:gpt-5-mini-2025-08-07:acme::abc", reading("ft:gpt-5-mini-2025-08-07:acme::abc"))

    assert (entry.cost_nanos, entry.status, entry.card, entry.moved) == (
        None,
        "unpriced",
        None,
        (Moved("all", "all/2026-11", 0),),
    )
    assert entry.usage == {"input": 1000, "output": 500}
    assert bench.value("unpriced_requests_total", model="ft:gpt-5-mini-2025-08-07:acme::abc") == 1


@pytest.mark.parametrize("status", ["reported", "estimated", "presumed"])
def test_what_has_no_price_says_what_it_would_be_with_one(status: Literal["reported", "estimated", "presumed"]) -> None:
    entry = Bench().settle("mystery", reading("mystery", status=status))

    assert (entry.status, entry.counted_as) == ("unpriced", status)
    assert Bench().settle("gpt-4o-mini", reading(None, status=status)).counted_as is None


def test_what_costs_nothing_names_its_budgets_so_that_a_later_price_can_charge_them() -> None:
    entry = Bench(budget("all")).settle("gpt-4o-mini", reading("gpt-4o-mini-2024-07-18", Usage()))

    assert (entry.cost_nanos, entry.moved) == (0, (Moved("all", "all/2026-11", 0),))


def test_a_failed_attempt_costs_nothing_and_is_an_entry() -> None:
    bench = Bench(budget("all"))

    entry = bench.settle("gpt-4o-mini", reading(None, Usage(), "failed"))

    assert (entry.cost_nanos, entry.status, entry.moved) == (0, "failed", ())
    assert len(bench.store.settled) == 1


def test_a_budget_that_only_the_served_name_matches_is_charged_and_a_wrong_guess_is_not() -> None:
    bench = Bench(budget("guessed", model="gpt-4o-2024-11-20"), budget("served", model="gpt-4o-2024-08-06"))

    entry = bench.settle("gpt-4o", reading("gpt-4o-2024-08-06"))

    assert [moved.budget for moved in entry.moved] == ["served"]
    assert bench.learned.served_for("gpt-4o") == "gpt-4o-2024-08-06"


def test_the_served_tier_is_charged() -> None:
    entry = Bench().settle("gpt-4o-mini", reading("gpt-4o-mini-2024-07-18", tier="priority"))

    assert (entry.tier, entry.cost_nanos) == ("priority", 1000 * 250 + 500 * 1000)


USAGE_OF = {
    "chat/completions": b'{"prompt_tokens": 1000, "completion_tokens": 500}',
    "completions": b'{"prompt_tokens": 1000, "completion_tokens": 500}',
    "responses": b'{"input_tokens": 1000, "output_tokens": 500}',
    "embeddings": b'{"prompt_tokens": 1000, "total_tokens": 1000}',
}


def read(endpoint: str, body: bytes) -> Reading:
    row = endpoint_of("POST", endpoint)
    meter = Meter(row, read_request(row, b'{"model": "m", "service_tier": "priority"}'), hide_usage=False)
    meter.start(200, "application/json", "")
    meter.feed(body)
    return meter.finish(Ending.COMPLETE)


@pytest.mark.parametrize("endpoint", USAGE_OF)
@pytest.mark.parametrize(
    ("asked", "served", "per_prompt", "per_completion"),
    [
        ("openai/gpt-4o-mini", "gpt-4o-mini-2024-07-18", 150, 600),
        ("openai/gpt-4o-mini", "openai/gpt-4o-mini", 150, 600),
        (f"openrouter/openai/{FINE_TUNED}", f"openai/{FINE_TUNED}", 300, 1200),
        ("azure/gpt-4o-mini", "azure/gpt-4o-mini-2024-07-18", 150, 600),
    ],
)
def test_prefixed_ids_from_bytes_to_nanos(
    endpoint: str, asked: str, served: str, per_prompt: int, per_completion: int
) -> None:
    body = b'{"id": "x", "model": "%b", "usage": %b}' % (served.encode(), USAGE_OF[endpoint])
    entry = Bench().settle(asked, read(endpoint, body))
    completion = 0 if endpoint == "embeddings" else 500
    assert (entry.status, entry.cost_nanos) == ("reported", 1000 * per_prompt + completion * per_completion)


@pytest.mark.parametrize("endpoint", USAGE_OF)
@pytest.mark.parametrize(
    ("tier", "charged", "factor"),
    [("default", "standard", 1), ("auto", "standard", 1), (None, "standard", 1), ("batch", "batch", 0.5)],
)
def test_the_tier_is_the_one_that_the_response_names(
    endpoint: str, tier: str | None, charged: str, factor: float
) -> None:
    told = b"null" if tier is None else b'"%b"' % tier.encode()
    body = b'{"model": "gpt-4o-mini", "service_tier": %b, "usage": %b}' % (told, USAGE_OF[endpoint])
    entry = Bench().settle("gpt-4o-mini", read(endpoint, body))
    completion = 0 if endpoint == "embeddings" else 500
    assert (entry.tier, entry.cost_nanos) == (charged, (1000 * 150 + completion * 600) * factor)


@pytest.mark.parametrize("tier", ["scale", "ultrafast"])
def test_a_tier_that_no_card_has_is_no_price(tier: str) -> None:
    body = b'{"model": "gpt-4o-mini", "service_tier": "%b", "usage": %b}' % (tier.encode(), USAGE_OF["responses"])
    entry = Bench().settle("gpt-4o-mini", read("responses", body))
    assert (entry.tier, entry.cost_nanos, entry.usage) == (tier, None, {"input": 1000, "output": 500})


@pytest.mark.parametrize("endpoint", USAGE_OF)
def test_explicit_zeros_cost_zero(endpoint: str) -> None:
    zeros = USAGE_OF[endpoint].replace(b"1000", b"0").replace(b"500", b"0")
    entry = Bench().settle("gpt-4o-mini", read(endpoint, b'{"model": "gpt-4o-mini", "usage": %b}' % zeros))
    assert (entry.status, entry.cost_nanos, entry.usage, entry.reason) == ("reported", 0, {}, None)


def test_an_image_whose_tokens_nobody_tells_leaves_the_whole_without_a_price() -> None:
    output = b'[{"type": "image_generation_call", "result": "AAAA"}]'
    body = b'{"model": "gpt-4o-mini", "output": %b, "usage": %b}' % (output, USAGE_OF["responses"])
    entry = Bench().settle("gpt-4o-mini", read("responses", body))
    assert (entry.cost_nanos, entry.status) == (None, "unpriced")
    assert entry.usage == {"input": 1000, "output": 500, "unknown_tool_calls": 1}


def test_metrics_show_tokens_cost_and_the_baseline_beside_a_fine_tune() -> None:
    bench = Bench()
    bench.settle(FINE_TUNED, reading(FINE_TUNED))
    who = {"owner": "anonymous", "model": FINE_TUNED, "base_model": "gpt-4o-mini", "fine_tuned": "true"}

    assert bench.value("tokens_total", kind="input", **who) == 1000
    assert bench.value("tokens_total", kind="output", **who) == 500
    assert bench.value("cost_dollars_total", **who) == pytest.approx(0.0009)
    assert bench.value("baseline_cost_dollars_total", model=FINE_TUNED, baseline="gpt-4o-mini-2024-07-18") == (
        pytest.approx(0.00045)
    )
    assert bench.value("model_last_used_timestamp_seconds", model=FINE_TUNED) == AT.timestamp()
    assert bench.value("model_shutdown_timestamp_seconds", model=FINE_TUNED) == (
        datetime(2027, 1, 14, tzinfo=UTC).timestamp()
    )


def test_a_configured_baseline_replaces_the_base_model() -> None:
    bench = Bench(baseline={FINE_TUNED: "gpt-4o"})

    bench.settle(FINE_TUNED, reading(FINE_TUNED))

    assert bench.value("baseline_cost_dollars_total", model=FINE_TUNED, baseline="gpt-4o") == pytest.approx(0.0075)


def test_estimated_and_presumed_requests_are_counted() -> None:
    bench = Bench()

    bench.settle("gpt-4o-mini", reading(None, USAGE, "estimated", "client_left"))
    presumed = bench.settle("gpt-4o-mini", reading(None, Usage(input=1000), "presumed", "no_answer"))

    assert bench.value("estimated_requests_total", reason="client_left") == 1
    assert bench.value("presumed_requests_total") == 1
    assert bench.value("presumed_cost_dollars_total") == pytest.approx(0.00015)
    assert presumed.cost_nanos == 150_000


@pytest.mark.parametrize(
    ("model", "status", "reason"),
    [
        (FINE_TUNED, "reported", None),
        ("gpt-4o-mini-2024-07-18", "reported", None),
        ("gpt-4o-mini-2024-07-18", "estimated", "client_left"),
        ("nobody-knows", "reported", None),
        (None, "failed", None),
        (None, "presumed", "no_status"),
    ],
)
def test_an_entry_counts_alike_when_its_worker_did_not_live_to_count_it(
    model: str | None, status: Literal["reported", "estimated", "presumed", "failed"], reason: str | None
) -> None:
    """Of all that the ledger tells; the baseline beside a fine-tune is not in it."""
    bench = Bench()
    entry = bench.settle("gpt-4o-mini", reading(model, USAGE if status != "failed" else Usage(), status, reason))
    late = CollectorRegistry()
    count_entry(Metrics(late), entry)
    told = ("tokens", "cost_dollars", "unpriced_requests", "estimated_requests", "presumed_requests")

    def counts(registry: CollectorRegistry) -> set[tuple[str, str, float]]:
        return {
            (sample.name, str(sample.labels), sample.value)
            for family in registry.collect()
            if family.name.removeprefix("taximeter_") in told
            for sample in family.samples
            if sample.name.endswith("_total")
        }

    assert counts(late) == counts(bench.registry)
    answered = late.get_sample_value("taximeter_requests_total", answered_labels(late)) if status != "presumed" else 1
    assert answered == 1


def answered_labels(registry: CollectorRegistry) -> dict[str, str]:
    [family] = [family for family in registry.collect() if family.name == "taximeter_requests"]
    [labels] = [sample.labels for sample in family.samples if sample.name.endswith("_total")]
    return labels
