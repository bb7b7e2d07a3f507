"""Two proxies, one Redis 7, one budget: whoever looks, whenever, sees no more spent and held than the limit."""

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

from proxy.cli.demo_upstream import ScriptedUpstream
from rates.money import usd_text
from tests.system.client import client
from tests.system.harness import FINE_TUNED, Redis7, Taximeter, chat, taximeter
from tests.system.prices import cost_of_all

REQUESTS = 500
# A request costs about 0.00004 and holds about twice that: room for a part of them only.
LIMIT = "0.006"


async def test_never_above_the_limit(tmp_path: Path, upstream: ScriptedUpstream, redis7: Redis7) -> None:
    upstream.chunk_seconds = 0.005  # streams overlap
    budget = {"name": "shared", "limit_usd": LIMIT, "period": "month", "fine_tuned": True}
    settings: dict[str, Any] = {"redis_url": redis7.url, "budget": [budget]}
    async with (
        taximeter(tmp_path / "one", upstream.url, **settings) as one,
        taximeter(tmp_path / "two", upstream.url, **settings) as two,
    ):
        over: list[str] = []
        scrapes = 0
        racing = asyncio.Event()

        async def watch(meter: Taximeter) -> None:
            nonlocal scrapes
            while not racing.is_set():
                scrape = await meter.scrape()
                spent = scrape.value("taximeter_budget_spent_dollars", budget="shared")
                held = scrape.value("taximeter_budget_held_dollars", budget="shared")
                assert spent is not None
                assert held is not None
                scrapes += 1
                # Nano-dollars: a float carries so few of them exactly.
                if round((spent + held) * 1e9) > round(float(LIMIT) * 1e9):
                    over.append(f"spent {spent} + held {held}")

        async def race() -> list[int]:
            try:
                async with client(50) as http:
                    gate = asyncio.Semaphore(50)

                    async def request(number: int) -> int:
                        async with gate:
                            body = chat(FINE_TUNED, f"race {number}", max_tokens=60, stream=number % 2 == 0)
                            return (await http.chat((one, two)[number % 3 % 2].base_url, body)).status

                    return await asyncio.gather(*(request(number) for number in range(REQUESTS)))
            finally:
                racing.set()

        statuses, *_ = await asyncio.gather(race(), watch(one), watch(two))
        assert not over, over[:5]
        assert scrapes >= 10
        assert set(statuses) == {200, 429}
        served = statuses.count(200)
        assert served == len(upstream.served)

        report = await one.report(requests=served)
        total = cost_of_all(upstream.served)
        assert report["total"]["cost_nanos"] == total
        [row] = (await two.json("budgets"))["budgets"]
        assert row["spent_usd"] == usd_text(total)
        assert row["held_usd"] == "0"
        # The budget was used, not locked away: what is left is less than one request's hold.
        assert Decimal(row["spent_usd"]) > Decimal(LIMIT) * Decimal("0.9")
