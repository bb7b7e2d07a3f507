"""A genuine model: the openai client, taximeter, SmolLM2 in llama.cpp's server. Its own usage is what the report shows."""

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from tests.real.parts import running, smollm2
from tests.system.client import KEY
from tests.system.harness import FINE_TUNED, Start
from tests.system.prices import BY_HAND

MODEL = "smollm2-135m-instruct"
MESSAGES: Any = [{"role": "user", "content": "Name three things that a taxi driver needs."}]


@pytest.fixture
async def genuine() -> AsyncIterator[str]:
    """The URL of a real model's server."""
    part = smollm2()
    if part.missing:
        pytest.skip(part.missing)
    async with running(part) as port:
        yield f"http://127.0.0.1:{port}/v1"


async def test_tokens_are_those_of_the_server(start: Start, genuine: str) -> None:
    # Priced as a fine-tuned model, so that its tokens turn into money.
    budget = {"name": "tuned", "limit_usd": "1", "period": "month", "fine_tuned": True}
    async with (
        start(genuine, models={MODEL: FINE_TUNED}, budget=[budget]) as meter,
        openai.AsyncOpenAI(api_key=KEY, base_url=meter.base_url) as through,
        openai.AsyncOpenAI(api_key=KEY, base_url=genuine) as direct,
    ):
        whole = await through.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=24)
        assert whole.usage is not None
        assert whole.choices[0].message.content
        usages = [whole.usage]

        options: Any = {"include_usage": True}
        stream = await through.chat.completions.create(
            model=MODEL, messages=MESSAGES, max_tokens=24, temperature=0, stream=True, stream_options=options
        )
        chunks = [chunk async for chunk in stream]
        assert chunks[-1].usage is not None
        usages.append(chunks[-1].usage)

        # Unasked: the client sees the text and no usage, and it counts all the same. At temperature 0 and from the
        # same cache the model says the same again; that is how the test knows what it used.
        stream = await through.chat.completions.create(
            model=MODEL, messages=MESSAGES, max_tokens=24, temperature=0, stream=True
        )
        unasked = [chunk async for chunk in stream]
        assert all("usage" not in chunk.model_fields_set and chunk.choices for chunk in unasked)
        told = await direct.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=24, temperature=0)
        assert told.usage is not None
        assert "".join(c.choices[0].delta.content or "" for c in unasked) == told.choices[0].message.content
        usages.append(told.usage)

        report = await meter.report(requests=3)
        [budget_row] = (await meter.json("budgets"))["budgets"]
        scrape = await meter.scrape()

    cached = sum(usage.prompt_tokens_details.cached_tokens or 0 for usage in usages if usage.prompt_tokens_details)
    fresh = sum(usage.prompt_tokens for usage in usages) - cached
    output = sum(usage.completion_tokens for usage in usages)
    [row] = report["rows"]
    tokens = {"input": fresh, "cached_input": cached, "output": output}
    assert row["tokens"] == {kind: count for kind, count in tokens.items() if count}
    assert row["model"] == FINE_TUNED
    rates = [float(rate) * 1000 for rate in BY_HAND[FINE_TUNED]]
    assert row["cost_nanos"] == round(fresh * rates[0] + cached * rates[1] + output * rates[2])
    assert budget_row["spent_usd"] == row["cost_usd"]
    assert budget_row["held_usd"] == "0"
    assert not scrape.value("taximeter_estimated_requests_total")
