"""The real openai client against the endpoints beside chat: seen as without taximeter, charged to the nano-dollar."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest

from tests.fakes.four_endpoints import CACHED, COMPLETION, PROMPT, TEXT, FourEndpoints
from tests.system.client import KEY, client
from tests.system.harness import FINE_TUNED, Redis7, Start, Taximeter, taximeter

pytestmark = pytest.mark.slow  # a process a test

WHOLE = "".join(TEXT)
# gpt-4o-mini fine-tuned: $0.30, cached $0.15, $1.20 a million tokens. text-embedding-3-small: $0.02.
NANOS = (PROMPT - CACHED) * 300 + CACHED * 150 + COMPLETION * 1200
EMBEDDING_NANOS = PROMPT * 20
BUDGET = {"name": "all", "limit_usd": "1", "period": "month"}
ASK: dict[str, Any] = {"model": FINE_TUNED, "input": "How far?", "max_output_tokens": 1000}


@asynccontextmanager
async def sdk(meter: Taximeter) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(api_key=KEY, base_url=meter.base_url, max_retries=0) as made:
        yield made


@pytest.fixture
async def upstream() -> AsyncIterator[FourEndpoints]:
    async with FourEndpoints() as running:
        yield running


async def settled(meter: Taximeter, nanos: int, requests: int) -> Any:
    """The report, once nothing is held and so much is spent."""
    scrape = await meter.scrape_until(
        lambda s: (
            s.value("taximeter_budget_held_dollars") == 0
            and round((s.value("taximeter_budget_spent_dollars") or 0) * 1e9) == nanos
        )
    )
    assert scrape.value("taximeter_budget_held_dollars") == 0
    report = await meter.report("--by", "model", requests=requests)
    assert (report["total"]["requests"], report["total"]["cost_nanos"]) == (requests, nanos)
    return scrape


async def test_completions_responses_and_embeddings(start: Start, upstream: FourEndpoints) -> None:
    async with start(upstream.url, budget=[BUDGET]) as meter, sdk(meter) as api:
        raw = await api.completions.with_raw_response.create(model=FINE_TUNED, prompt="How far?", max_tokens=100)
        assert raw.parse().choices[0].text == WHOLE
        assert raw.headers["x-taximeter-cost-usd"] == f"{NANOS / 1e9:.9f}".rstrip("0")
        unasked = [chunk async for chunk in await api.completions.create(model=FINE_TUNED, prompt="far?", stream=True)]
        assert "".join(chunk.choices[0].text for chunk in unasked) == WHOLE
        assert all("usage" not in chunk.model_fields_set for chunk in unasked)
        asked = [
            chunk
            async for chunk in await api.completions.create(
                model=FINE_TUNED, prompt="far?", stream=True, stream_options={"include_usage": True}
            )
        ]
        assert asked[-1].choices == []
        assert asked[-1].usage is not None

        whole = await api.responses.create(**ASK)
        assert (whole.output_text, whole.usage and whole.usage.output_tokens) == (WHOLE, COMPLETION)
        events = [event async for event in await api.responses.create(**ASK, stream=True)]
        assert events[-1].type == "response.completed"
        # A response has its usage without asking: nothing is put into the request.
        assert b"stream_options" not in upstream.received[-1].body

        embedded = await api.embeddings.create(model="text-embedding-3-small", input="How far?")
        assert embedded.usage.prompt_tokens == PROMPT
        scrape = await settled(meter, 5 * NANOS + EMBEDDING_NANOS, 6)
    assert len(upstream.told) == 6
    for endpoint, requests in (("completions", 3), ("responses", 2), ("embeddings", 1)):
        assert scrape.value("taximeter_requests_total", endpoint=endpoint, status="200") == requests
    assert not scrape.value("taximeter_estimated_requests_total")


async def test_a_response_that_is_read_again_is_not_charged_again(start: Start, upstream: FourEndpoints) -> None:
    async with start(upstream.url, budget=[BUDGET]) as meter, sdk(meter) as api:
        made = await api.responses.create(**ASK)
        for _ in range(3):
            assert (await api.responses.retrieve(made.id)).output_text == WHOLE
        await settled(meter, NANOS, 1)


async def test_in_the_background_the_first_reply_with_usage_is_charged(start: Start, upstream: FourEndpoints) -> None:
    async with start(upstream.url, budget=[BUDGET]) as meter, sdk(meter) as api:
        raw = await api.responses.with_raw_response.create(**ASK, background=True)
        made = raw.parse()
        assert made.status == "queued"
        assert "x-taximeter-cost-usd" not in raw.headers
        assert (await api.responses.retrieve(made.id)).status == "queued"
        # It is under way: no charge, no estimate, and its hold stays.
        scrape = await meter.scrape_until(lambda s: bool(s.value("taximeter_budget_held_dollars")))
        assert scrape.value("taximeter_budget_spent_dollars") == 0
        assert (await meter.report(requests=0))["total"]["requests"] == 0

        upstream.finish(made.id)
        for _ in range(5):
            assert (await api.responses.retrieve(made.id)).output_text == WHOLE
        events = [event async for event in await api.responses.retrieve(made.id, stream=True)]
        assert events[-1].type == "response.completed"
        scrape = await settled(meter, NANOS, 1)
    assert not scrape.value("taximeter_estimated_requests_total")
    assert scrape.value("taximeter_tokens_total", kind="output") == COMPLETION


async def test_the_end_of_a_background_response_in_a_stream(start: Start, upstream: FourEndpoints) -> None:
    async with start(upstream.url, budget=[BUDGET]) as meter, sdk(meter) as api:
        # The stream of a response that goes on without it: broken off before its end.
        events = [event async for event in await api.responses.create(**ASK, background=True, stream=True)]
        assert [event.type for event in events] == ["response.created"]
        upstream.finish("resp_1")
        assert [event async for event in await api.responses.retrieve("resp_1", stream=True)]
        await settled(meter, NANOS, 1)


@pytest.mark.parametrize(
    ("status", "with_usage", "nanos", "estimated"),
    [
        ("incomplete", True, NANOS, None),
        ("failed", True, NANOS, None),
        ("failed", False, 0, None),
    ],
)
async def test_however_it_ends(
    start: Start, upstream: FourEndpoints, status: str, with_usage: bool, nanos: int, estimated: float | None
) -> None:
    async with start(upstream.url, budget=[BUDGET]) as meter, sdk(meter) as api:
        made = await api.responses.create(**ASK, background=True)
        upstream.finish(made.id, status, with_usage=with_usage)
        await api.responses.retrieve(made.id)
        scrape = await settled(meter, nanos, 1)
    assert scrape.value("taximeter_estimated_requests_total") == estimated


async def test_cancelled_without_usage_it_is_estimated(start: Start, upstream: FourEndpoints) -> None:
    async with start(upstream.url, budget=[BUDGET]) as meter, sdk(meter) as api:
        made = await api.responses.create(**ASK, background=True)
        assert (await api.responses.cancel(made.id)).status == "cancelled"
        report = await meter.report(requests=1)
        scrape = await meter.scrape_until(lambda s: s.value("taximeter_budget_held_dollars") == 0)
    assert scrape.value("taximeter_estimated_requests_total") == 1
    assert scrape.value("taximeter_budget_held_dollars") == 0
    assert report["total"]["cost_nanos"] > 0


async def test_two_proxies_charge_a_background_response_once(
    tmp_path: Any, redis7: Redis7, upstream: FourEndpoints
) -> None:
    shared: dict[str, Any] = {"redis_url": redis7.url, "budget": [BUDGET], "workers": 2}
    async with (
        taximeter(tmp_path / "one", upstream.url, **shared) as one,
        taximeter(tmp_path / "two", upstream.url, **shared) as two,
        sdk(one) as here,
        sdk(two) as there,
    ):
        made = [await here.responses.create(**ASK, background=True) for _ in range(10)]
        for response in made:
            upstream.finish(response.id)
        for response in made:
            await there.responses.retrieve(response.id)
            await here.responses.retrieve(response.id)
        await settled(one, 10 * NANOS, 10)
        # Later readings change nothing either.
        for response in made:
            await there.responses.retrieve(response.id)
        await settled(two, 10 * NANOS, 10)


async def test_posts_with_one_response_id_are_all_charged(start: Start, upstream: FourEndpoints) -> None:
    async with start(upstream.url, budget=[BUDGET]) as meter, sdk(meter) as api:
        for _ in range(3):
            made = await api.responses.create(**ASK, background=True)
            upstream.stored.clear()  # the next one gets the same id
        upstream.stored[made.id] = made.model_dump(mode="json")
        upstream.finish(made.id)
        await api.responses.retrieve(made.id)
        await settled(meter, 3 * NANOS, 3)
        upstream.stored.clear()
        made = await api.responses.create(**ASK, background=True)
        upstream.finish(made.id)
        await api.responses.retrieve(made.id)
        await settled(meter, 4 * NANOS, 4)


@pytest.mark.parametrize("path", ["chat/completions", "completions", "responses", "embeddings"])
async def test_without_a_price_a_refusing_budget_refuses(start: Start, upstream: FourEndpoints, path: str) -> None:
    body = b'{"model": "nobody-knows-it", "messages": [], "prompt": "", "input": ""}'
    async with start(upstream.url, budget=[BUDGET]) as meter, client() as http:
        answer = await http.send("POST", f"{meter.base_url}/{path}", body=body)
    assert (answer.status, answer.code) == (403, "model_not_priced")
    assert not upstream.received


@pytest.mark.parametrize("path", ["completions", "responses", "embeddings"])
async def test_without_a_price_the_tokens_are_kept(start: Start, upstream: FourEndpoints, path: str) -> None:
    body = b'{"model": "nobody-knows-it", "prompt": "", "input": ""}'
    async with start(upstream.url, budget=[BUDGET | {"on_exceed": "alert"}]) as meter, client() as http:
        answer = await http.send("POST", f"{meter.base_url}/{path}", body=body)
        report = await meter.report(requests=1)
        scrape = await meter.scrape()
    assert answer.status == 200
    assert answer.header("x-taximeter-cost-usd") is None
    assert (report["total"]["cost_nanos"], report["total"]["unpriced_requests"]) == (None, 1)
    assert sum(report["total"]["tokens"].values()) == PROMPT + (0 if path == "embeddings" else COMPLETION)
    assert scrape.value("taximeter_unpriced_requests_total", model="nobody-knows-it") == 1
