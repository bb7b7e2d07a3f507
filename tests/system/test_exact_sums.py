"""A thousand mixed requests, fifty at a time: the report equals the sum computed by hand from the upstream's own log."""

import asyncio
import random
from collections import Counter
from typing import Any

from proxy.cli.demo_upstream import ScriptedUpstream
from rates.money import usd_text
from tests.system.client import Client, client
from tests.system.harness import Start, chat
from tests.system.prices import BY_HAND, cost_of_all

REQUESTS = 1000
AT_A_TIME = 50
MODELS = [*BY_HAND, "gpt-4o-mini", "gpt-4o", "gpt-4.1", "gpt-4.1-mini"]


def mixed_requests(count: int) -> list[dict[str, Any]]:
    chance = random.Random(20261122)
    bodies = []
    for number in range(count):
        # Every fifth prompt is long enough for the upstream to have a part of it in its cache.
        text = f"request {number} " + "mile " * chance.choice((3, 30, 120, 400, 1500))
        body = chat(chance.choice(MODELS), text)
        if chance.random() < 0.5:
            body["stream"] = True
            if chance.random() < 0.5:
                body["stream_options"] = {"include_usage": True}
        if chance.random() < 0.3:
            body[chance.choice(("max_tokens", "max_completion_tokens"))] = chance.randint(1, 60)
        bodies.append(body)
    return bodies


async def send_all(http: Client, base_url: str, bodies: list[dict[str, Any]]) -> list[int]:
    gate = asyncio.Semaphore(AT_A_TIME)

    async def one(body: dict[str, Any]) -> int:
        async with gate:
            answer = await http.chat(base_url, body)
            assert not answer.broken
            return answer.status

    return await asyncio.gather(*(one(body) for body in bodies))


async def test_a_thousand_requests_add_up(start: Start, upstream: ScriptedUpstream) -> None:
    budgets = [
        {"name": "all", "limit_usd": "1000", "period": "month"},
        {"name": "tuned", "limit_usd": "1000", "period": "day", "fine_tuned": True, "on_exceed": "alert"},
    ]
    async with start(upstream.url, workers=2, budget=budgets) as meter:
        async with client(AT_A_TIME) as http:
            statuses = await send_all(http, meter.base_url, mixed_requests(REQUESTS))
        assert set(statuses) == {200}
        assert len(upstream.served) == REQUESTS
        total = cost_of_all(upstream.served)
        tuned = [served for served in upstream.served if served.model.startswith("ft:")]

        report = await meter.report(requests=REQUESTS)
        assert report["total"]["requests"] == REQUESTS
        assert report["total"]["unpriced_requests"] == 0
        assert report["total"]["cost_nanos"] == total
        assert report["total"]["cost_usd"] == usd_text(total)
        by_model = Counter(served.model for served in upstream.served)
        assert {row["model"]: row["requests"] for row in report["rows"]} == by_model
        for row in report["rows"]:
            served = [each for each in upstream.served if each.model == row["model"]]
            assert row["cost_nanos"] == cost_of_all(served), row["model"]
            cached = sum(each.cached_tokens for each in served)
            assert row["tokens"].get("cached_input", 0) == cached
            assert row["tokens"]["input"] == sum(each.prompt_tokens for each in served) - cached
            assert row["tokens"]["output"] == sum(each.completion_tokens for each in served)

        by_kind = await meter.json("report", "--by", "fine_tuned")
        assert by_kind["total"] == report["total"]
        assert {row["fine_tuned"]: row["cost_nanos"] for row in by_kind["rows"]} == {
            True: cost_of_all(tuned),
            False: total - cost_of_all(tuned),
        }

        rows = {row["name"]: row for row in (await meter.json("budgets"))["budgets"]}
        assert rows["all"]["spent_usd"] == usd_text(total)
        assert rows["tuned"]["spent_usd"] == usd_text(cost_of_all(tuned))
        assert {row["held_usd"] for row in rows.values()} == {"0"}
