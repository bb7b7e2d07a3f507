"""Streams in time: first byte to first byte, who leaves early, and what becomes of open streams at the end."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from proxy.cli.small_http import HttpRequest
from tests.fakes.upstreams import CHUNK, FakeUpstream, SteppedUpstream, response
from tests.system.client import HEADERS, client
from tests.system.harness import Start, Taximeter, chat

BUDGET: dict[str, Any] = {"name": "all", "limit_usd": "100", "period": "month"}
BODY = chat("gpt-4o-mini", stream=True, max_tokens=1000)


class OpenStream:
    """A client in the middle of a stream: what came so far, piece by piece."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self, seconds: float = 1.0) -> bytes:
        async with asyncio.timeout(seconds):
            return await self.response.content.readany()

    async def rest(self) -> bytes:
        async with asyncio.timeout(10):
            return await self.response.content.read()


@asynccontextmanager
async def stream(meter: Taximeter, body: Any = BODY) -> AsyncIterator[OpenStream]:
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.post(f"{meter.base_url}/chat/completions", json=body, headers=HEADERS) as response,
    ):
        assert response.status == 200
        yield OpenStream(response)


@pytest.mark.parametrize("asks_usage", [True, False])
async def test_every_chunk_comes_at_once(start: Start, asks_usage: bool) -> None:
    """The upstream waits after each chunk until the client has it: what is held back would wait for ever."""
    body = BODY | ({"stream_options": {"include_usage": True}} if asks_usage else {})
    async with SteppedUpstream() as upstream, start(upstream.url) as meter, stream(meter, body) as opened:
        for _ in range(20):
            upstream.step()
            assert await opened.next() == CHUNK
        # Half an event: it is passed on when nothing has to be hidden, and no later than its end otherwise.
        upstream.step(CHUNK[:40])
        if asks_usage:
            assert await opened.next() == CHUNK[:40]
            upstream.step(CHUNK[40:])
            assert await opened.next() == CHUNK[40:]
        else:
            upstream.step(CHUNK[40:])
            got = b""
            while len(got) < len(CHUNK):
                got += await opened.next()
            assert got == CHUNK
        upstream.end()
        assert await opened.rest() == b"data: [DONE]\n\n"
        open_streams = await meter.scrape_until(lambda s: s.value("taximeter_open_streams") == 0)
    assert open_streams.value("taximeter_open_streams") == 0


async def test_the_head_does_not_wait_for_the_first_chunk(start: Start) -> None:
    async with (
        SteppedUpstream() as upstream,
        start(upstream.url) as meter,
        asyncio.timeout(10),
        stream(meter) as opened,
    ):
        assert opened.response.headers["content-type"].startswith("text/event-stream")
        scrape = await meter.scrape_until(lambda s: s.value("taximeter_open_streams") == 1, 5)
        assert scrape.value("taximeter_open_streams") == 1
        upstream.end()
        await opened.rest()


async def test_little_is_added_to_the_time_of_a_chunk(start: Start) -> None:
    async with SteppedUpstream() as upstream, start(upstream.url) as meter, stream(meter) as opened:
        took = []
        for _ in range(50):
            began = time.perf_counter()
            upstream.step()
            await opened.next()
            took.append(time.perf_counter() - began)
        upstream.end()
        await opened.rest()
    # Nagle with delayed acknowledgements would stall small chunks by 40 ms; a busy machine a few of them only.
    assert sorted(took)[len(took) // 2] < 0.02, took


async def test_who_leaves_a_stream_stops_the_upstream(start: Start) -> None:
    async with SteppedUpstream() as upstream, start(upstream.url, budget=[BUDGET]) as meter:
        async with stream(meter) as opened:
            for _ in range(3):
                upstream.step()
                await opened.next()
            assert not upstream.gone.is_set()
        # The client has left: nothing is generated, and paid for, that nobody reads.
        async with asyncio.timeout(1):
            await upstream.gone.wait()
        report = await meter.report(requests=1)
        scrape = await meter.scrape_until(lambda s: s.value("taximeter_budget_held_dollars") == 0)
    [row] = report["rows"]
    assert row["model"] == "gpt-4o-mini-2024-07-18"
    assert row["cost_nanos"] > 0
    assert 3 <= row["tokens"]["output"] <= 60  # three times "So far and no further, ", not the 1,000 it might have been
    assert scrape.value("taximeter_estimated_requests_total") == 1
    assert scrape.value("taximeter_requests_total", status="499") == 1
    assert scrape.value("taximeter_budget_held_dollars") == 0
    assert scrape.value("taximeter_open_streams") == 0


async def test_who_leaves_before_the_first_chunk(start: Start) -> None:
    async with SteppedUpstream() as upstream, start(upstream.url, budget=[BUDGET]) as meter:
        async with stream(meter):
            pass
        async with asyncio.timeout(1):
            await upstream.gone.wait()
        report = await meter.report(requests=1)
        scrape = await meter.scrape_until(lambda s: s.value("taximeter_budget_held_dollars") == 0)
    assert report["total"]["requests"] == 1
    assert report["total"]["cost_nanos"] > 0  # the prompt
    assert scrape.value("taximeter_budget_held_dollars") == 0


async def test_who_leaves_a_whole_reply_does_not_stop_it(start: Start) -> None:
    """It is paid for in any case: it is read to its end, and charged by its own usage instead of an estimate."""
    usage = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}
    body = json.dumps({"id": "c", "model": "gpt-4o-mini-2024-07-18", "choices": [], "usage": usage}).encode()
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await go_on.wait()
        writer.write(response("200 OK", body))
        await writer.drain()

    async with FakeUpstream(slow) as upstream, start(upstream.url, budget=[BUDGET]) as meter:
        async with aiohttp.ClientSession() as session:
            url = f"{meter.base_url}/chat/completions"
            posting = asyncio.get_running_loop().create_task(
                session.post(url, json=chat("gpt-4o-mini"), headers=HEADERS)
            )
            await asked.wait()
            posting.cancel()
        await asyncio.sleep(0.3)
        go_on.set()
        report = await meter.report(requests=1)
        scrape = await meter.scrape_until(lambda s: s.value("taximeter_budget_held_dollars") == 0)
    assert report["total"]["cost_nanos"] == 450_000
    assert scrape.value("taximeter_requests_total", status="499") == 1
    assert not scrape.value("taximeter_estimated_requests_total")
    assert scrape.value("taximeter_budget_held_dollars") == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
async def test_open_streams_are_drained(start: Start, how: signal.Signals, workers: int) -> None:
    async with (
        SteppedUpstream() as upstream,
        start(upstream.url, budget=[BUDGET], workers=workers) as meter,
    ):
        async with stream(meter) as opened:
            upstream.step()
            assert await opened.next() == CHUNK
            stopping = asyncio.get_running_loop().create_task(meter.stop(how))
            await asyncio.sleep(0.5)
            assert not stopping.done(), meter.log()
            with pytest.raises(aiohttp.ClientConnectionError):  # nobody new is let in
                async with client() as http:
                    await http.chat(meter.base_url, BODY)
            upstream.step()
            assert await opened.next() == CHUNK
            usage = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}
            last = {"id": "chatcmpl-1", "model": "gpt-4o-mini-2024-07-18", "choices": [], "usage": usage}
            upstream.step(f"data: {json.dumps(last)}\n\n".encode())
            upstream.end()
            assert await opened.rest() == b"data: [DONE]\n\n"
        async with asyncio.timeout(10):
            assert await stopping == 0
        # Settled before the exit: the embedded store, started again for this call, has it.
        report = await meter.json("report")
    assert report["total"]["tokens"] == {"input": 10, "output": 20}
    assert report["total"]["cost_nanos"] == 10 * 150 + 20 * 600


async def test_drain_seconds_end_a_stream_that_goes_on(start: Start) -> None:
    async with (
        SteppedUpstream() as upstream,
        start(upstream.url, budget=[BUDGET], drain_seconds=1) as meter,
    ):
        async with stream(meter) as opened:
            upstream.step()
            assert await opened.next() == CHUNK
            began = time.monotonic()
            assert await meter.stop() == 0
            assert 0.5 < time.monotonic() - began < 6
        report = await meter.json("report")
    assert report["total"]["requests"] == 1
    assert report["total"]["cost_nanos"] > 0
