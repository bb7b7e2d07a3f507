"""Where no usage comes, what is charged is tiktoken's own count of what passed."""

import asyncio
import io
import json
import signal
from typing import Any

import aiohttp
import pytest

from proxy.cli.small_http import HttpRequest
from proxy.metering.encodings import load
from tests.fakes.upstreams import FakeUpstream, SteppedUpstream, breaks_off_stream, never_answers, response
from tests.system.client import HEADERS, client
from tests.system.harness import FINE_TUNED, Start, chat

pytestmark = pytest.mark.slow  # a process a test

BUDGET: dict[str, Any] = {"name": "all", "limit_usd": "100", "period": "month"}
QUESTION = "How far is it to 東京? Answer in one line, please."
SAID = ("It is ", "320 km", " by road, ", "料金は", "降りるときに", "分かります。")
MESSAGES = [{"role": "user", "content": QUESTION}]
SERVED = "gpt-4o-mini-2024-07-18"


def size(text: str) -> int:
    return len(load("o200k_base").encode_ordinary(text))


PROMPT = 3 + 3 + size("user") + size(QUESTION)
OUTPUT = size("".join(SAID))


def chunk(text: str, model: str = SERVED) -> bytes:
    data = {"id": "chatcmpl-1", "model": model, "choices": [{"index": 0, "delta": {"content": text}}]}
    return b"data: " + json.dumps(data).encode() + b"\n\n"


@pytest.mark.parametrize("model", ["gpt-4o-mini", FINE_TUNED])
async def test_a_stream_that_the_client_leaves(start: Start, model: str) -> None:
    served = SERVED if model == "gpt-4o-mini" else model
    body = chat(model, stream=True, messages=MESSAGES)
    async with SteppedUpstream() as upstream, start(upstream.url, budget=[BUDGET]) as meter:
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{meter.base_url}/chat/completions", json=body, headers=HEADERS) as opened,
        ):
            for text in SAID:
                upstream.step(chunk(text, served))
                await opened.content.readany()
        report = await meter.report(requests=1)
        scrape = await meter.scrape_until(lambda s: s.value("taximeter_budget_held_dollars") == 0)
    [row] = report["rows"]
    assert row["tokens"] == {"input": PROMPT, "output": OUTPUT}
    into, out = (150, 600) if model == "gpt-4o-mini" else (300, 1200)
    assert row["cost_nanos"] == PROMPT * into + OUTPUT * out
    assert scrape.value("taximeter_estimated_requests_total", reason="client_left") == 1
    assert scrape.value("taximeter_requests_total", status="499") == 1


async def test_a_whole_reply_without_usage_has_its_cost_in_its_head(start: Start) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "".join(SAID)}, "finish_reason": "stop"}
    reply = json.dumps({"id": "c", "model": SERVED, "choices": [choice]}).encode()

    async def answers(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(response("200 OK", reply))
        await writer.drain()

    async with FakeUpstream(answers) as upstream, start(upstream.url) as meter, client() as http:
        await http.chat(meter.base_url, chat("gpt-4o-mini", messages=MESSAGES))  # reads the table
        answer = await http.chat(meter.base_url, chat("gpt-4o-mini", messages=MESSAGES))
        report = await meter.report(requests=2)
    nanos = PROMPT * 150 + OUTPUT * 600
    assert answer.body == reply
    assert float(answer.header("x-taximeter-cost-usd") or 0) == pytest.approx(nanos / 1e9)
    assert report["total"]["tokens"] == {"input": 2 * PROMPT, "output": 2 * OUTPUT}
    assert report["total"]["cost_nanos"] == 2 * nanos


async def test_a_stream_that_breaks_off(start: Start) -> None:
    async with FakeUpstream(breaks_off_stream) as upstream, start(upstream.url) as meter, client() as http:
        answer = await http.chat(meter.base_url, chat("gpt-4o-mini", stream=True, messages=MESSAGES))
        assert answer.broken
        report = await meter.report(requests=1)
    assert report["total"]["tokens"] == {"input": PROMPT, "output": size("So far and no further, " * 3)}


async def test_a_large_prompt_is_not_lost_when_the_client_leaves_and_the_proxy_ends(start: Start) -> None:
    """The count of a prompt of 3 MB, its table not yet read, begins just as the proxy is told to end."""
    text = "The meter runs while you ride. " * 100_000
    body = chat("gpt-4o-mini", stream=True, messages=[{"role": "user", "content": text}])
    async with FakeUpstream(never_answers) as upstream, start(upstream.url, budget=[BUDGET], drain_seconds=1) as meter:
        async with aiohttp.ClientSession() as session:
            url = f"{meter.base_url}/chat/completions"
            posting = asyncio.get_running_loop().create_task(
                session.post(url, data=io.BytesIO(json.dumps(body).encode()), headers=HEADERS)
            )
            async with asyncio.timeout(10):
                while not upstream.received:
                    await asyncio.sleep(0.02)
            posting.cancel()
            await asyncio.sleep(0.05)
        assert await meter.stop(signal.SIGTERM) == 0
        report = await meter.json("report")
    assert report["total"]["requests"] == 1
    assert report["total"]["tokens"]["input"] == pytest.approx(7 * 100_000, rel=0.01)
