"""What was spent stays spent: over a restart, over a killed supervisor; and configuration that is read again."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

from proxy.cli.demo_upstream import ScriptedUpstream
from tests.system.client import client
from tests.system.harness import FINE_TUNED, Start, Taximeter, chat, processes_below, taximeter
from tests.system.prices import cost_of_all

BUDGET: dict[str, Any] = {"name": "tuned", "limit_usd": "0.001", "period": "month", "fine_tuned": True}


async def spent(meter: Taximeter) -> float | None:
    scrape = await meter.scrape_until(lambda s: s.value("taximeter_budget_held_dollars") == 0)
    return scrape.value("taximeter_budget_spent_dollars", budget="tuned")


def nanos(dollars: float | None) -> int | None:
    return None if dollars is None else round(dollars * 1e9)


async def test_a_budget_outlives_a_restart(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    data = str(tmp_path / "data")
    async with client() as http:
        async with taximeter(tmp_path / "one", upstream.url, data_dir=data, budget=[BUDGET]) as meter:
            assert (await http.chat(meter.base_url, chat(FINE_TUNED, max_tokens=50))).status == 200
            before = await spent(meter)
        async with taximeter(tmp_path / "two", upstream.url, data_dir=data, budget=[BUDGET]) as meter:
            assert nanos(await spent(meter)) == nanos(before) == cost_of_all(upstream.served)
            while (await http.chat(meter.base_url, chat(FINE_TUNED, max_tokens=50))).status == 200:
                assert len(upstream.served) < 100
            report = await meter.report(requests=len(upstream.served))
    assert report["total"]["cost_nanos"] == cost_of_all(upstream.served)


async def test_a_killed_supervisor(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Its workers leave by themselves; the next one takes the store over as it is, held money and all."""
    data = str(tmp_path / "data")
    first = tmp_path / "one"
    async with client() as http:
        async with taximeter(first, upstream.url, data_dir=data, budget=[BUDGET], workers=2) as meter:
            assert (await http.chat(meter.base_url, chat(FINE_TUNED, max_tokens=50))).status == 200
            before = await spent(meter)
            await meter.kill()
            deadline = time.monotonic() + 10
            while left := processes_below(first):
                assert time.monotonic() < deadline, left
                await asyncio.sleep(0.1)
        async with taximeter(tmp_path / "two", upstream.url, data_dir=data, budget=[BUDGET]) as meter:
            assert nanos(await spent(meter)) == nanos(before) == cost_of_all(upstream.served)
            assert (await http.chat(meter.base_url, chat(FINE_TUNED, max_tokens=50))).status == 200
            report = await meter.report(requests=2)
            assert report["total"]["cost_nanos"] == cost_of_all(upstream.served)


async def test_a_killed_embedded_store_is_started_again_and_nothing_is_lost(
    start: Start, upstream: ScriptedUpstream
) -> None:
    async with start(upstream.url, budget=[BUDGET | {"limit_usd": "1"}]) as meter, client() as http:
        assert (await http.chat(meter.base_url, chat(FINE_TUNED, max_tokens=50))).status == 200
        before = await spent(meter)
        pid = int((meter.data_dir / "store.server").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        for _ in range(20):  # while it is away, and while it comes back
            assert (await http.chat(meter.base_url, chat(FINE_TUNED, max_tokens=50))).status == 200
        report = await meter.report(requests=len(upstream.served))
        assert int((meter.data_dir / "store.server").read_text().split()[0]) != pid
        assert nanos(before) is not None
        assert report["total"]["cost_nanos"] == nanos(await spent(meter)) == cost_of_all(upstream.served)


async def test_configuration_is_read_again(start: Start, upstream: ScriptedUpstream) -> None:
    async with start(upstream.url, budget=[BUDGET], workers=2) as meter, client() as http:
        written = meter.config.read_text()

        async def limit_becomes(text: str, wanted: float, readings: int) -> None:
            meter.config.write_text(text)
            os.kill(meter.process.pid, signal.SIGHUP)
            scrape = await meter.scrape_until(lambda s: s.value("taximeter_budget_limit_dollars") == wanted, 10)
            assert scrape.value("taximeter_budget_limit_dollars") == wanted, meter.log()
            while meter.log().count("were read again") < readings:  # by all workers
                await asyncio.sleep(0.05)

        assert (await http.chat(meter.base_url, chat(FINE_TUNED, max_tokens=50))).status == 200
        await limit_becomes(written.replace('"0.001"', '"0.000001"'), 0.000001, 1)
        for _ in range(6):  # both workers know
            async with client() as fresh:
                assert (await fresh.chat(meter.base_url, chat(FINE_TUNED, max_tokens=50))).status == 429
        # A bad file changes nothing, and says why in one line.
        meter.config.write_text(written.replace("limit_usd", "limt_usd"))
        os.kill(meter.process.pid, signal.SIGHUP)
        for _ in range(100):
            if "limt_usd" in meter.log():
                break
            await asyncio.sleep(0.05)
        assert sum("limt_usd" in line for line in meter.log().splitlines()) == 1
        assert (await meter.scrape()).value("taximeter_budget_limit_dollars") == 0.000001
        assert (await http.chat(meter.base_url, chat(FINE_TUNED, max_tokens=50))).status == 429
        await limit_becomes(written.replace('"0.001"', '"5"'), 5, 2)
        assert (await http.chat(meter.base_url, chat(FINE_TUNED, max_tokens=50))).status == 200
