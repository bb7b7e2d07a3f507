"""Nobody starves a budget with holds: an owner's open requests are counted, and each of them ends."""

import json

import aiohttp
import pytest

from tests.fakes.upstreams import CHUNK, FakeUpstream, SteppedUpstream, falls_silent, never_answers
from tests.system.client import HEADERS, client
from tests.system.harness import Start, chat

BUDGET = {"name": "all", "limit_usd": "1", "period": "total"}
STREAM = chat("gpt-4o-mini", stream=True, max_tokens=1000)


async def test_an_owner_has_so_many_requests_open_and_no_more(start: Start) -> None:
    async with (
        SteppedUpstream() as upstream,
        start(upstream.url, budget=[BUDGET], max_open_requests_per_owner=2) as meter,
        client() as http,
        aiohttp.ClientSession() as session,
    ):
        url = f"{meter.base_url}/chat/completions"
        async with (
            session.post(url, json=STREAM, headers=HEADERS) as one,
            session.post(url, json=STREAM, headers=HEADERS) as two,
        ):
            answer = await http.chat(meter.base_url, STREAM)
            assert (answer.status, answer.code) == (429, "too_many_open_requests")
            assert (answer.header("x-should-retry"), answer.header("retry-after")) == ("true", "1")
            # Another owner is another matter.
            async with session.post(url, json=STREAM, headers={"authorization": "Bearer sk-other"}) as other:
                assert other.status == 200
            assert (one.status, two.status) == (200, 200)
        scrape = await meter.scrape_until(lambda s: s.value("taximeter_open_streams") == 0)
        assert scrape.value("taximeter_open_streams") == 0
        # Who left has made room, and what was refused has left nothing held.
        async with session.post(url, json=STREAM, headers=HEADERS) as again:
            assert again.status == 200
        scrape = await meter.scrape_until(lambda s: s.value("taximeter_budget_held_dollars") == 0)
    assert len(upstream.received) == 4
    assert scrape.value("taximeter_budget_held_dollars") == 0


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_request_that_gets_no_answer_ends_with_its_lifetime(start: Start, stream: bool) -> None:
    async with (
        FakeUpstream(never_answers) as upstream,
        start(upstream.url, budget=[BUDGET], max_request_seconds=1) as meter,
        client() as http,
    ):
        answer = await http.chat(meter.base_url, chat("gpt-4o-mini", stream=stream))
        assert (answer.status, answer.code) == (504, "upstream_too_slow")
        assert "max_request_seconds" in answer.json()["error"]["message"]
        report = await meter.report(requests=1)
        scrape = await meter.scrape_until(lambda s: s.value("taximeter_budget_held_dollars") == 0)
    assert report["total"]["requests"] == 1
    assert scrape.value("taximeter_presumed_requests_total") == 1
    assert scrape.value("taximeter_budget_held_dollars") == 0


async def test_a_stream_that_goes_on_for_too_long_is_broken_off_and_settled(start: Start) -> None:
    async with (
        FakeUpstream(falls_silent) as upstream,
        start(upstream.url, budget=[BUDGET], max_request_seconds=1) as meter,
        client() as http,
    ):
        answer = await http.chat(meter.base_url, STREAM)
        assert (answer.status, answer.body, answer.broken) == (200, CHUNK * 2, True)
        report = await meter.report(requests=1)
        scrape = await meter.scrape_until(lambda s: s.value("taximeter_budget_held_dollars") == 0)
    assert report["total"]["cost_nanos"] > 0, json.dumps(report)
    assert scrape.value("taximeter_estimated_requests_total", reason="stream_broke") == 1
    assert scrape.value("taximeter_budget_held_dollars") == 0
