"""Upstreams that nobody here wrote."""

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from tests.real.parts import Part, aimock, llmock, running
from tests.system.client import KEY, client
from tests.system.harness import FINE_TUNED, Start, chat

ASK = "thousand"  # tests/real/aimock answers this with 1,000 input and 500 output tokens


async def serving(part: Part) -> AsyncIterator[str]:
    if part.missing:
        pytest.skip(part.missing)
    async with running(part) as port:
        yield f"http://127.0.0.1:{port}/v1"


@pytest.fixture
async def mock() -> AsyncIterator[str]:
    async for url in serving(aimock()):
        yield url


@pytest.fixture
async def truncating() -> AsyncIterator[str]:
    """llmock, of which every stream ends before its time."""
    async for url in serving(llmock("--stream-fault", "truncate=1.0", "--response-style", "echo")):
        yield url


@pytest.mark.parametrize(
    ("model", "usd", "nanos"), [(FINE_TUNED, "0.0009", 900_000), ("gpt-4o-mini", "0.00045", 450_000)]
)
async def test_a_thousand_in_and_five_hundred_out(start: Start, mock: str, model: str, usd: str, nanos: int) -> None:
    async with start(mock) as meter, client() as http:
        whole = await http.chat(meter.base_url, chat(model, ASK))
        assert whole.status == 200
        assert whole.json()["model"] == model
        assert whole.header("x-taximeter-cost-usd") == usd
        one = await meter.report(requests=1)
        assert one["total"]["cost_usd"] == usd
        assert one["total"]["cost_nanos"] == nanos
        assert one["total"]["tokens"] == {"input": 1000, "output": 500}

        unasked = await http.chat(meter.base_url, chat(model, ASK, stream=True))
        direct = await http.chat(mock, chat(model, ASK, stream=True))
        assert events(unasked.body) == events(direct.body)
        assert b'"usage"' not in unasked.body
        asked = await http.chat(meter.base_url, chat(model, ASK, stream=True, stream_options={"include_usage": True}))
        assert events(asked.body)[-1]["usage"]["prompt_tokens"] == 1000
        three = await meter.report(requests=3)
    assert three["total"]["cost_nanos"] == 3 * nanos
    assert [row["model"] for row in three["rows"]] == [model]


async def test_responses_and_embeddings(start: Start, mock: str) -> None:
    async with start(mock) as meter, openai.AsyncOpenAI(api_key=KEY, base_url=meter.base_url) as api:
        whole = await api.responses.create(model=FINE_TUNED, input=ASK)
        assert (whole.model, whole.usage and whole.usage.total_tokens) == (FINE_TUNED, 1500)
        streamed = [event async for event in await api.responses.create(model=FINE_TUNED, input=ASK, stream=True)]
        assert streamed[-1].type == "response.completed"
        report = await meter.report(requests=2)
        assert (report["total"]["cost_usd"], report["total"]["tokens"]) == ("0.0018", {"input": 2000, "output": 1000})
        # It says that an embedding takes no tokens. An explicit zero is zero, and no reason for an estimate.
        embedded = await api.embeddings.create(model="text-embedding-3-small", input=ASK)
        assert embedded.usage.total_tokens == 0
        report = await meter.report(requests=3)
        scrape = await meter.scrape()
    assert report["total"]["cost_usd"] == "0.0018"
    assert report["total"]["unpriced_requests"] == 0
    assert not scrape.value("taximeter_estimated_requests_total")


async def test_an_azure_deployment(start: Start, mock: str) -> None:
    settings: dict[str, Any] = {"provider": "azure", "models": {"classifier": "gpt-4o-mini-2024-07-18"}}
    async with (
        start(mock, **settings) as meter,
        openai.AsyncAzureOpenAI(azure_endpoint=meter.url, api_key="azure-key", api_version="2024-10-21") as api,
    ):
        reply = await api.chat.completions.create(model="classifier", messages=[{"role": "user", "content": ASK}])
        report = await meter.report("--by", "model", requests=1)
    assert reply.model == "classifier"
    assert [row["model"] for row in report["rows"]] == ["gpt-4o-mini-2024-07-18"]
    assert report["total"]["cost_nanos"] == 450_000


async def test_a_stream_that_is_cut_off_is_estimated(start: Start, truncating: str) -> None:
    async with start(truncating) as meter, client() as http:
        answer = await http.chat(
            meter.base_url, chat(FINE_TUNED, "say these words again, all of them, please", stream=True)
        )
        report = await meter.report(requests=1)
        scrape = await meter.scrape()
    assert answer.status == 200
    assert b"[DONE]" not in answer.body
    assert scrape.value("taximeter_estimated_requests_total") == 1
    assert report["total"]["cost_nanos"] > 0


def events(stream: bytes) -> list[dict[str, Any]]:
    """The chunks without what differs from call to call."""
    lines = [line.removeprefix("data: ") for line in stream.decode().split("\n\n") if line.startswith("data: {")]
    return [{key: value for key, value in json.loads(line).items() if key not in ("id", "created")} for line in lines]
