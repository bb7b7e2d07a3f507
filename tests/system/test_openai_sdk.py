"""The real openai client in front: what it sees is what it would see without taximeter."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest

from proxy.cli.demo_upstream import ScriptedUpstream
from rates.money import usd_text
from tests.system.client import KEY
from tests.system.harness import FINE_TUNED, Start, Taximeter
from tests.system.prices import cost_of

MESSAGES: Any = [{"role": "user", "content": "How far is it to the station?"}]


@asynccontextmanager
async def sdk(meter: Taximeter, key: str = KEY) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(api_key=key, base_url=meter.base_url) as client:
        yield client


async def test_create_whole_and_streamed(start: Start, upstream: ScriptedUpstream) -> None:
    async with start(upstream.url) as meter, sdk(meter) as client:
        whole = await client.chat.completions.create(model=FINE_TUNED, messages=MESSAGES)
        assert whole.model == FINE_TUNED
        assert whole.usage is not None
        assert whole.usage.completion_tokens == upstream.served[0].completion_tokens
        text = whole.choices[0].message.content

        unasked = [
            c async for c in await client.chat.completions.create(model=FINE_TUNED, messages=MESSAGES, stream=True)
        ]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in unasked) == text
        assert all(len(chunk.choices) == 1 for chunk in unasked)
        assert all("usage" not in chunk.model_fields_set for chunk in unasked)

        asked = [
            chunk
            async for chunk in await client.chat.completions.create(
                model="gpt-4o-mini", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
            )
        ]
        assert asked[-1].choices == []
        assert asked[-1].usage is not None
        assert asked[-1].model == "gpt-4o-mini-2024-07-18"
        assert all("usage" in chunk.model_fields_set and chunk.usage is None for chunk in asked[:-1])

        report = await meter.report(requests=3)
    assert report["total"]["requests"] == 3
    assert report["total"]["cost_nanos"] == sum(map(cost_of, upstream.served))
    # Taximeter asked for the usage of all three, and told it to who wanted it.
    assert [served.usage_told for served in upstream.served] == [True, True, True]


async def test_raw_response_headers(start: Start, upstream: ScriptedUpstream) -> None:
    async with start(upstream.url) as meter, sdk(meter) as client:
        raw = await client.chat.completions.with_raw_response.create(model=FINE_TUNED, messages=MESSAGES)
        completion = raw.parse()
    assert raw.status_code == 200
    assert raw.request_id is not None
    assert raw.request_id.startswith("req_")
    assert completion._request_id == raw.request_id
    assert raw.headers["openai-organization"] == "scripted"
    assert raw.headers["openai-processing-ms"] == "1"
    assert raw.headers["x-ratelimit-remaining-requests"] == "9999"
    assert re.fullmatch(
        r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", raw.headers["x-taximeter-entry"]
    )
    assert raw.headers["x-taximeter-cost-usd"] == usd_text(cost_of(upstream.served[0]))
    assert len(raw.headers.get_list("date")) == 1


async def test_models_list(start: Start, upstream: ScriptedUpstream) -> None:
    async with start(upstream.url) as meter, sdk(meter) as client:
        names = [model.id async for model in client.models.list()]
        assert "gpt-4o-mini-2024-07-18" in names
        scrape = await meter.scrape_until(lambda s: bool(s.value("taximeter_requests_total", status="200")))
    assert scrape.value("taximeter_requests_total", status="200") == 1


async def test_upstream_errors_keep_their_types(start: Start, upstream: ScriptedUpstream) -> None:
    async with start(upstream.url) as meter:
        async with sdk(meter) as client:
            with pytest.raises(openai.NotFoundError) as missing:
                await client.chat.completions.create(model="gpt-4o-nonexistent", messages=MESSAGES)
            with pytest.raises(openai.BadRequestError) as bad:
                await client.chat.completions.create(model="gpt-4o", messages=MESSAGES, max_tokens=-1)
        async with sdk(meter, key="wrong-key") as client:
            with pytest.raises(openai.AuthenticationError) as unknown:
                await client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
        scrape = await meter.scrape_until(lambda s: s.value("taximeter_requests_total") == 3)
    assert missing.value.code == "model_not_found"
    assert "gpt-4o-nonexistent" in missing.value.message
    assert bad.value.param == "max_tokens"
    assert unknown.value.code == "invalid_api_key"
    assert upstream.received == 3
    for status in ("404", "400", "401"):
        assert scrape.value("taximeter_requests_total", status=status) == 1
    assert not scrape.value("taximeter_cost_dollars_total")


async def test_budget_refusal(start: Start, upstream: ScriptedUpstream) -> None:
    budget = {"name": "acme-monthly", "limit_usd": "0.000001", "period": "month", "fine_tuned": True}
    async with start(upstream.url, budget=[budget]) as meter, sdk(meter) as client:
        with pytest.raises(openai.RateLimitError) as refused:
            await client.chat.completions.create(model=FINE_TUNED, messages=MESSAGES)
        assert upstream.received == 0
        scrape = await meter.scrape_until(lambda s: bool(s.value("taximeter_refused_requests_total")))
        # The base model is outside of this budget.
        await client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
        assert upstream.received == 1
    error = refused.value
    assert error.status_code == 429
    assert error.code == "budget_exceeded"
    assert error.type == "insufficient_quota"
    assert error.param is None
    assert error.response.headers["x-should-retry"] == "false"
    assert "x-taximeter-entry" in error.response.headers
    body: Any = error.body
    message = r"budget acme-monthly: \$0\.00 of \$0\.000001 used; resets \d{4}-\d\d-01T00:00:00Z"
    assert re.fullmatch(message, body["message"]), body
    # One attempt: the client did not try again.
    assert scrape.value("taximeter_refused_requests_total", budget="acme-monthly", reason="budget_exceeded") == 1
    assert scrape.value("taximeter_requests_total", status="429") == 1


async def test_taximeter_keys(start: Start, upstream: ScriptedUpstream) -> None:
    async with start(upstream.url, env={"OPENAI_API_KEY": "sk-upstream"}) as meter:
        created = await meter.cli("keys", "create", "--owner", "acme")
        assert created.returncode == 0, created.stderr
        key = created.stdout.strip()
        assert re.fullmatch(r"tm-\S+", key)
        async with sdk(meter, key=key) as client:
            await client.chat.completions.create(model=FINE_TUNED, messages=MESSAGES)
        async with sdk(meter, key="tm-" + "x" * 40) as client:
            with pytest.raises(openai.AuthenticationError) as unknown:
                await client.chat.completions.create(model=FINE_TUNED, messages=MESSAGES)
        report = await meter.report("--by", "owner", requests=1)
    assert unknown.value.code == "invalid_api_key"
    assert upstream.received == 1
    assert [row["owner"] for row in report["rows"]] == ["acme"]
    assert report["total"]["cost_nanos"] == cost_of(upstream.served[0])
