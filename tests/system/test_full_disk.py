"""A disk that takes no more of the journal: nothing is forwarded, what has ended is charged, and it mends by itself."""

import asyncio
import resource
import sys

import pytest

from proxy.cli.demo_upstream import ScriptedUpstream
from tests.fakes.upstreams import SteppedUpstream
from tests.system.client import client
from tests.system.harness import FINE_TUNED, Start, Taximeter, chat
from tests.system.test_adoption import entries

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prlimit is Linux's")


def limit_files(meter: Taximeter, *, is_full: bool) -> None:
    """No file of the worker may grow beyond what its journal has."""
    [worker] = meter.workers()
    [segment] = (meter.data_dir / "journal").rglob("*.seg")
    size = segment.stat().st_size if is_full else resource.RLIM_INFINITY
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


async def test_nothing_is_forwarded_that_is_not_journalled(start: Start, upstream: ScriptedUpstream) -> None:
    async with start(upstream.url) as meter, client() as http:
        assert (await http.chat(meter.base_url, chat(FINE_TUNED, max_tokens=50))).status == 200
        await entries(meter, 1)
        limit_files(meter, is_full=True)
        for _ in range(3):
            refused = await http.chat(meter.base_url, chat(FINE_TUNED, max_tokens=50))
            assert (refused.status, refused.code) == (503, "journal_unavailable")
            assert refused.header("x-should-retry") == "true"
        assert upstream.received == 1
        assert (await http.send("GET", f"{meter.base_url}/models")).status == 200  # costs nothing, needs no journal
        full = await meter.scrape_until(lambda s: s.value("taximeter_journal_failing") == 1)
        assert full.value("taximeter_journal_failing") == 1
        limit_files(meter, is_full=False)
        assert (await http.chat(meter.base_url, chat(FINE_TUNED, max_tokens=50))).status == 200
        mended = await meter.scrape_until(lambda s: s.value("taximeter_journal_failing") == 0)
        assert mended.value("taximeter_journal_failing") == 0
        assert len(await entries(meter, 2)) == 2
        assert "cannot be written: File too large; nothing is forwarded until it can" in meter.log()


async def test_what_ends_meanwhile_is_charged(start: Start) -> None:
    async with SteppedUpstream() as upstream, start(upstream.url) as meter, client() as http:
        body = chat(FINE_TUNED, max_tokens=50, stream=True)
        stream = asyncio.ensure_future(http.chat(meter.base_url, body))  # noqa: TID251
        await meter.scrape_until(lambda s: s.value("taximeter_open_streams") == 1)
        limit_files(meter, is_full=True)
        upstream.step()
        upstream.end()
        assert (await stream).status == 200
        [entry] = await entries(meter, 1)
        assert entry["cost_nanos"] > 0
        limit_files(meter, is_full=False)
