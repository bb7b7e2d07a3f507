"""A refusing budget is used up to within one exact hold, whatever the cheap estimate would have held."""

import json

from proxy.metering.estimate import count_prompt
from tests.fakes.upstreams import FakeUpstream, response, says
from tests.system.client import client
from tests.system.harness import Start, chat

BODY = json.dumps(chat("gpt-4o", max_tokens=10)).encode()
PROMPT, OUTPUT = 12, 10  # as tiktoken counts this prompt, and the most that the request allows
COST = PROMPT * 2500 + OUTPUT * 10_000  # nanos: $2.50 and $10 a million
USAGE = {"prompt_tokens": PROMPT, "completion_tokens": OUTPUT, "total_tokens": PROMPT + OUTPUT}
REPLY = response(
    "200 OK", json.dumps({"id": "c", "model": "gpt-4o-2024-08-06", "choices": [], "usage": USAGE}).encode()
)


async def test_a_budget_for_ten_requests_serves_ten(start: Start) -> None:
    assert count_prompt(BODY) > 2 * PROMPT  # held so, only nine would fit
    budget = {"name": "ten", "limit_usd": f"{10 * COST / 10**9:.9f}", "period": "total"}
    async with FakeUpstream(says(REPLY)) as upstream, start(upstream.url, budget=[budget]) as meter, client() as http:
        for number in range(10):
            answer = await http.chat(meter.base_url, BODY)
            assert answer.status == 200, (number, answer)
            done = (number + 1) * COST / 10**9
            await meter.scrape_until(lambda s, done=done: s.value("taximeter_budget_spent_dollars") == done)  # type: ignore[misc]
        refused = await http.chat(meter.base_url, BODY)
        assert (refused.status, refused.code) == (429, "budget_exceeded")
        [use] = (await meter.json("budgets"))["budgets"]
    assert (use["spent_usd"], use["held_usd"]) == (use["limit_usd"], "0")
    assert len(upstream.received) == 10
