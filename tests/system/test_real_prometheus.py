"""A real Prometheus scrapes a real taximeter, and the shipped rule fires there when a budget crosses 80%."""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from proxy.cli.demo_upstream import ScriptedUpstream
from tests.deploy.conftest import ALERT_RULES, eventually, start_prometheus
from tests.system.client import client
from tests.system.harness import FINE_TUNED, Start

pytestmark = pytest.mark.slow  # Prometheus starts, scrapes and evaluates

BUDGET = {"name": "tuned", "limit_usd": "0.001", "period": "month", "fine_tuned": True, "on_exceed": "alert"}


async def test_the_80_percent_rule_fires_in_a_real_prometheus(
    start: Start, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async with start(upstream.url, budget=[BUDGET]) as meter, client() as http:
        target = urlsplit(meter.ops_url).netloc
        prometheus = await asyncio.to_thread(start_prometheus, tmp_path, [target], (ALERT_RULES,))
        try:
            spent = 0
            while spent < 800_000:  # nanos: 80% of a tenth of a cent
                await http.chat(
                    meter.base_url,
                    {"model": FINE_TUNED, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 400},
                )
                report = await meter.report(requests=len(upstream.served))
                spent = report["total"]["cost_nanos"]
            assert spent < 1_000_000, "one request must not leap over the whole last fifth"

            def alerts() -> list[dict[str, str]]:
                return prometheus.alerts("TaximeterBudgetThreshold")

            await asyncio.to_thread(eventually, alerts, within=20, what="the 80% alert")
            fired = await asyncio.to_thread(alerts)
            assert [(alert["budget"], alert["period"], alert["threshold"]) for alert in fired] == [
                ("tuned", "month", "0.8")
            ]
            await http.chat(
                meter.base_url,
                {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 400},
            )
            await asyncio.sleep(3)  # three more scrapes and evaluations
            assert await asyncio.to_thread(alerts) == fired
        finally:
            await asyncio.to_thread(prometheus.stop)
