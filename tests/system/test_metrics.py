"""The metrics of the contract after known traffic: names, labels, values."""

import asyncio
import hashlib
import os
import signal
from typing import Any

import pytest

from proxy.cli.demo_upstream import ScriptedUpstream
from tests.system.client import KEY, client
from tests.system.harness import FINE_TUNED, Redis7, Start, chat
from tests.system.ops import Scrape, get
from tests.system.prices import cost_of, cost_of_all

OWNER = "key-" + hashlib.sha256(KEY.encode()).hexdigest()[:8]
BUDGET: dict[str, Any] = {"name": "tuned", "limit_usd": "2", "period": "month", "fine_tuned": True}


def settled(count: int) -> Any:
    return lambda scrape: (
        scrape.value("taximeter_requests_total") == count and not scrape.value("taximeter_spool_entries")
    )


async def test_after_known_traffic(start: Start, upstream: ScriptedUpstream) -> None:
    settings: dict[str, Any] = {"budget": [BUDGET], "baseline": {FINE_TUNED: "gpt-4o"}}
    async with start(upstream.url, **settings) as meter, client() as http:
        fresh = await meter.scrape()
        assert fresh.value("taximeter_budget_limit_dollars", budget="tuned", period="month") == 2
        assert fresh.value("taximeter_budget_spent_dollars", budget="tuned") == 0
        assert fresh.value("taximeter_budget_used_ratio", budget="tuned") == 0
        assert fresh.value("taximeter_store_up") == 1
        assert fresh.value("taximeter_refused_requests_total", budget="tuned", reason="budget_exceeded") == 0

        await http.chat(meter.base_url, chat(FINE_TUNED, "mile " * 2000))
        await http.chat(meter.base_url, chat(FINE_TUNED, stream=True))
        await http.chat(meter.base_url, chat("gpt-4o-mini"), headers={"authorization": "Bearer sk-other"})
        await http.chat(meter.base_url, chat("gpt-4o-mini"), headers={})
        await http.send("GET", f"{meter.base_url}/models")
        scrape = await meter.scrape_until(settled(5))

    tuned = {"owner": OWNER, "model": FINE_TUNED, "base_model": "gpt-4o-mini", "fine_tuned": "true"}
    assert scrape.value("taximeter_requests_total", **tuned, endpoint="chat/completions", status="200") == 2
    whole, stream, base = upstream.served
    assert stream.usage_told
    for kind, tokens in (
        ("input", whole.prompt_tokens - whole.cached_tokens + stream.prompt_tokens),
        ("cached_input", whole.cached_tokens),
        ("output", whole.completion_tokens + stream.completion_tokens),
    ):
        assert (scrape.value("taximeter_tokens_total", **tuned, kind=kind) or 0) == tokens, kind
    assert {labels["kind"] for labels in scrape.labels("taximeter_tokens_total")} <= {"input", "cached_input", "output"}
    cost = cost_of(whole) + cost_of(stream)
    assert scrape.value("taximeter_cost_dollars_total", **tuned) == pytest.approx(cost / 1e9, rel=1e-12)
    other = {"model": "gpt-4o-mini-2024-07-18", "base_model": "gpt-4o-mini", "fine_tuned": "false"}
    assert scrape.value("taximeter_cost_dollars_total", **other) == pytest.approx(cost_of(base) / 1e9, rel=1e-12)
    assert (scrape.value("taximeter_requests_total", owner="anonymous", status="401") or 0) == 1
    assert scrape.value("taximeter_requests_total", status="200") == 4

    as_baseline = sum(
        (
            (served.prompt_tokens - served.cached_tokens) * 2500
            + served.cached_tokens * 1250
            + served.completion_tokens * 10000
        )
        for served in (whole, stream)
    )
    found = scrape.value("taximeter_baseline_cost_dollars_total", model=FINE_TUNED, baseline="gpt-4o")
    assert found == pytest.approx(as_baseline / 1e9, rel=1e-12)

    assert scrape.value("taximeter_budget_spent_dollars", budget="tuned", period="month") == pytest.approx(cost / 1e9)
    assert scrape.value("taximeter_budget_held_dollars", budget="tuned") == 0
    assert scrape.value("taximeter_budget_used_ratio", budget="tuned") == pytest.approx(cost / 2e9)
    thresholds = {labels["threshold"] for labels in scrape.labels("taximeter_budget_alert_at_ratio")}
    assert {float(threshold) for threshold in thresholds} == {0.8, 1.0}
    assert (scrape.value("taximeter_budget_reset_timestamp_seconds", budget="tuned") or 0) > 1_700_000_000

    assert scrape.value("taximeter_open_streams") == 0
    assert scrape.value("taximeter_spool_entries") == 0
    for histogram in ("taximeter_overhead_seconds", "taximeter_upstream_seconds"):
        assert (scrape.value(f"{histogram}_count") or 0) >= 3, histogram
    assert scrape.value("taximeter_time_to_first_token_seconds_count") == 1
    assert (scrape.value("taximeter_model_last_used_timestamp_seconds", model=FINE_TUNED) or 0) > 1_700_000_000
    # 2027-01-14: published on the vendor's deprecation page.
    assert scrape.value("taximeter_model_shutdown_timestamp_seconds", model=FINE_TUNED) == 1799884800


async def test_the_budgets_gauges_go_with_the_store(start: Start, upstream: ScriptedUpstream, redis7: Redis7) -> None:
    async with start(upstream.url, redis_url=redis7.url, budget=[BUDGET]) as meter, client() as http:
        await http.chat(meter.base_url, chat(FINE_TUNED))
        before = await meter.scrape_until(lambda s: bool(s.value("taximeter_budget_spent_dollars")))
        assert before.value("taximeter_store_up") == 1
        await redis7.stop()
        away = await meter.scrape_until(lambda s: s.value("taximeter_store_up") == 0)
        assert away.value("taximeter_store_up") == 0
        for gauge in ("spent_dollars", "held_dollars", "used_ratio"):
            assert away.value(f"taximeter_budget_{gauge}") is None, gauge
        assert (await get(f"{meter.ops_url}/healthz")).status == 200
        assert (await get(f"{meter.ops_url}/readyz")).status == 200
        # on_store_loss = "allow": the request flows, and waits for the store to be charged.
        assert (await http.chat(meter.base_url, chat(FINE_TUNED))).status == 200
        spooled = await meter.scrape_until(lambda s: bool(s.value("taximeter_spool_entries")))
        assert (spooled.value("taximeter_spool_entries") or 0) >= 1
        await redis7.start()
        back = await meter.scrape_until(
            lambda s: s.value("taximeter_store_up") == 1 and not s.value("taximeter_spool_entries")
        )
        assert back.value("taximeter_store_up") == 1
        spent = back.value("taximeter_budget_spent_dollars", budget="tuned")
        assert spent == pytest.approx(cost_of_all(upstream.served) / 1e9)


async def test_readyz_when_a_budget_refuses_on_store_loss(
    start: Start, upstream: ScriptedUpstream, redis7: Redis7
) -> None:
    strict = BUDGET | {"on_store_loss": "refuse"}
    async with start(upstream.url, redis_url=redis7.url, budget=[strict]) as meter, client() as http:
        assert (await get(f"{meter.ops_url}/readyz")).status == 200
        await redis7.stop()
        assert (await get(f"{meter.ops_url}/readyz")).status == 503
        assert (await get(f"{meter.ops_url}/healthz")).status == 200
        refused = await http.chat(meter.base_url, chat(FINE_TUNED))
        assert (refused.status, refused.code) == (503, "store_unavailable")
        assert refused.header("x-should-retry") == "true"
        assert upstream.received == 0
        # The base model is outside of the budget.
        assert (await http.chat(meter.base_url, chat("gpt-4o-mini"))).status == 200
        await redis7.start()


async def test_sums_of_all_workers(start: Start, upstream: ScriptedUpstream) -> None:
    requests = 60
    async with start(upstream.url, workers=2) as meter:
        for _ in range(6):  # a new connection each time: the workers share them
            async with client() as http:
                await asyncio.gather(
                    *(http.chat(meter.base_url, chat(FINE_TUNED, f"{n}")) for n in range(requests // 6))
                )
        scrape = await meter.scrape_until(settled(requests))
        again = await meter.scrape()
    for once in (scrape, again):
        assert once.value("taximeter_requests_total") == requests
        assert once.value("taximeter_cost_dollars_total") == pytest.approx(cost_of_all(upstream.served) / 1e9)
    assert "pid=" not in scrape.text


async def test_a_killed_worker_is_replaced_and_its_counts_stay(start: Start, upstream: ScriptedUpstream) -> None:
    async with start(upstream.url, workers=2) as meter:
        async with client() as http:
            await asyncio.gather(*(http.chat(meter.base_url, chat(FINE_TUNED, f"{n}")) for n in range(20)))
        before = await meter.scrape_until(settled(20))
        assert before.value("taximeter_requests_total") == 20
        workers = meter.workers()
        assert len(workers) >= 2
        victim = max(workers)
        os.kill(victim, signal.SIGKILL)
        for _ in range(200):
            if len(set(meter.workers()) - {victim}) >= len(workers):
                break
            await asyncio.sleep(0.05)
        assert victim not in meter.workers()
        for _ in range(10):
            async with client() as http:
                assert (await http.chat(meter.base_url, chat(FINE_TUNED, "after"))).status == 200
        scrape = await meter.scrape_until(settled(30))
    assert scrape.value("taximeter_requests_total") == 30
    assert scrape.value("taximeter_cost_dollars_total") == pytest.approx(cost_of_all(upstream.served) / 1e9)


async def test_types_and_help(start: Start, upstream: ScriptedUpstream) -> None:
    async with start(upstream.url, budget=[BUDGET]) as meter, client() as http:
        await http.chat(meter.base_url, chat(FINE_TUNED))
        await meter.scrape_until(settled(1))
        reply = await get(f"{meter.ops_url}/metrics")
        missing = await get(f"{meter.ops_url}/nothing-here")
    assert reply.headers["content-type"].startswith("text/plain")
    scrape = Scrape(reply.body.decode())
    assert "# TYPE taximeter_requests_total counter" in scrape.text
    assert "# TYPE taximeter_overhead_seconds histogram" in scrape.text
    assert "# TYPE taximeter_budget_spent_dollars gauge" in scrape.text
    assert missing.status == 404
