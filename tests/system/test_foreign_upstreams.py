"""Upstreams that nobody here wrote."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.real.parts import Part, aimock, llmock, running
from tests.system.client import client
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
