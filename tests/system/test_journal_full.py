"""A journal that cannot be written: nothing is forwarded that nobody could tell of, and it heals by itself."""

import resource
import sys
from typing import Any

import pytest

from proxy.cli.demo_upstream import ScriptedUpstream
from tests.system.client import client
from tests.system.harness import FINE_TUNED, Start, chat

BUDGET: dict[str, Any] = {"name": "tuned", "limit_usd": "1", "period": "month", "fine_tuned": True}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux changes the limits of a process that runs")
async def test_a_full_disk_refuses_and_forwards_nothing(start: Start, upstream: ScriptedUpstream) -> None:
    async with start(upstream.url, budget=[BUDGET]) as meter, client() as http:
        assert (await http.chat(meter.base_url, chat(FINE_TUNED, max_tokens=50))).status == 200
        [worker] = meter.workers()
        before = resource.prlimit(worker, resource.RLIMIT_FSIZE)
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (0, before[1]))  # as a full disk, but for one process
        served = len(upstream.served)
        for stream in (False, True):
            answer = await http.chat(meter.base_url, chat(FINE_TUNED, max_tokens=50, stream=stream))
            assert answer.status == 503
            assert answer.code == "journal_unavailable"
            assert answer.header("x-should-retry") == "true"
        assert len(upstream.served) == served

        resource.prlimit(worker, resource.RLIMIT_FSIZE, before)
        assert (await http.chat(meter.base_url, chat(FINE_TUNED, max_tokens=50))).status == 200
        scrape = await meter.scrape_until(lambda s: s.value("taximeter_budget_held_dollars") == 0)
        assert scrape.value("taximeter_budget_held_dollars") == 0
        report = await meter.report(requests=2)
        assert report["total"]["requests"] == 2
        assert meter.log().count("can be written again") == 1  # that it could not, its log file could not take either
        assert meter.workers() == [worker]
    assert "cut off" not in meter.log()  # every request was over when the proxy ended
