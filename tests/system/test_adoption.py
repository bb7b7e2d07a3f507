"""Whatever dies, each attempt becomes exactly one current entry: what a dead worker has left is finished by others."""

import asyncio
import json
import os
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from proxy.cli.demo_upstream import ScriptedUpstream
from tests.fakes.upstreams import FakeUpstream, falls_silent
from tests.system.client import client
from tests.system.harness import FINE_TUNED, Redis7, Start, Taximeter, chat, taximeter
from tests.system.prices import cost_of_all

BUDGET: dict[str, Any] = {"name": "tuned", "limit_usd": "10", "period": "month", "fine_tuned": True}


def journals(meter: Taximeter) -> set[str]:
    return {path.name for path in (meter.data_dir / "journal").iterdir()}


async def entries(meter: Taximeter, count: int) -> list[dict[str, Any]]:
    """The ledger as soon as it has so many lines."""
    lines: list[dict[str, Any]] = []
    for _ in range(100):
        exported = await meter.cli("ledger", "export", "--format", "jsonl", "--since", "2020-01-01")
        assert exported.returncode == 0, exported.stderr
        lines = [json.loads(line) for line in exported.stdout.splitlines()]
        if len(lines) >= count:
            break
        await asyncio.sleep(0.1)
    assert Counter(line["id"] for line in lines).most_common(1)[0][1] == 1
    return lines


async def kill_all(meter: Taximeter) -> None:
    """The supervisor and its workers, not the store."""
    pids = meter.workers()
    await meter.kill()
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def test_a_worker_killed_in_the_middle_of_a_stream(start: Start) -> None:
    async with (
        FakeUpstream(falls_silent) as upstream,
        start(upstream.url, budget=[BUDGET]) as meter,
        client() as http,
    ):
        body = chat(FINE_TUNED, max_tokens=100, stream=True)
        stream = asyncio.ensure_future(http.chat(meter.base_url, body))  # noqa: TID251
        opened = await meter.scrape_until(
            lambda s: s.value("taximeter_open_streams") == 1 and bool(s.value("taximeter_budget_held_dollars"))
        )
        assert opened.value("taximeter_open_streams") == 1
        before = journals(meter)
        [worker] = meter.workers()
        os.kill(worker, signal.SIGKILL)
        with suppress(OSError, aiohttp.ClientError):
            await stream
        after = await meter.scrape_until(
            lambda s: s.value("taximeter_presumed_requests_total") == 1 and bool(meter.workers())
        )
        [entry] = await entries(meter, 1)
        assert (entry["status"], entry["line"], entry["asked_model"]) == ("presumed", "entry", FINE_TUNED)
        assert entry["cost_nanos"] > 0
        assert after.value("taximeter_budget_held_dollars") == 0
        assert after.value("taximeter_open_streams") in (0, None)
        assert round((after.value("taximeter_budget_spent_dollars") or 0) * 1e9) == entry["cost_nanos"]
        assert round((after.value("taximeter_presumed_cost_dollars_total") or 0) * 1e9) == entry["cost_nanos"]
        assert round((after.value("taximeter_cost_dollars_total") or 0) * 1e9) == entry["cost_nanos"]
        assert not journals(meter) & before
        verified = await meter.cli("ledger", "verify")
        assert verified.returncode == 0, verified.stdout + verified.stderr
    assert journals(meter) == set()


async def test_all_is_killed_while_the_store_is_away(
    tmp_path: Path, upstream: ScriptedUpstream, redis7: Redis7
) -> None:
    """What was answered and not applied yet is in the journals; the next start brings it to the store, once."""
    data = str(tmp_path / "data")
    settings: dict[str, Any] = {"data_dir": data, "redis_url": redis7.url, "budget": [BUDGET]}
    async with client() as http:
        async with taximeter(tmp_path / "one", upstream.url, workers=2, **settings) as meter:
            for _ in range(10):
                assert (await http.chat(meter.base_url, chat(FINE_TUNED, max_tokens=50))).status == 200
            await meter.scrape_until(lambda s: s.value("taximeter_budget_held_dollars") == 0)
            await redis7.stop()
            for _ in range(20):
                assert (await http.chat(meter.base_url, chat(FINE_TUNED, max_tokens=50))).status == 200
            spooled = await meter.scrape_until(lambda s: s.value("taximeter_spool_entries") == 20)
            assert spooled.value("taximeter_spool_entries") == 20
            [one, *_] = meter.workers()
            os.kill(one, signal.SIGKILL)  # its journal waits with the supervisor
            await meter.scrape_until(lambda s: len(meter.workers()) == 2)
            # As long as the store does not say what it has, all that the dead journal holds counts.
            spooled = await meter.scrape_until(lambda s: (s.value("taximeter_spool_entries") or 0) >= 20)
            assert 20 <= (spooled.value("taximeter_spool_entries") or 0) <= 30
            await kill_all(meter)
        # Ready without the store, and with fewer slots than before.
        async with taximeter(tmp_path / "two", upstream.url, **settings) as meter:
            assert (await http.chat(meter.base_url, chat(FINE_TUNED, max_tokens=50))).status == 200
            await redis7.start()
            lines = await entries(meter, 31)
            assert len(lines) == 31
            assert {line["status"] for line in lines} == {"reported"}
            assert sum(line["cost_nanos"] for line in lines) == cost_of_all(upstream.served)
            verified = await meter.cli("ledger", "verify")
            assert verified.returncode == 0, verified.stdout + verified.stderr
            scrape = await meter.scrape_until(
                lambda s: s.value("taximeter_spool_entries") == 0 and len(journals(meter)) == 1
            )
            assert scrape.value("taximeter_spool_entries") == 0
            assert scrape.value("taximeter_budget_held_dollars") == 0
            assert len(journals(meter)) == 1
        assert journals(meter) == set()


@pytest.mark.slow
async def test_a_clean_end_with_the_store_away_leaves_the_journal_to_the_next_start(
    tmp_path: Path, upstream: ScriptedUpstream, redis7: Redis7
) -> None:
    settings: dict[str, Any] = {"data_dir": str(tmp_path / "data"), "redis_url": redis7.url, "drain_seconds": 1}
    async with client() as http:
        async with taximeter(tmp_path / "one", upstream.url, **settings) as meter:
            await redis7.stop()
            assert (await http.chat(meter.base_url, chat(FINE_TUNED, max_tokens=50))).status == 200
        assert len(journals(meter)) == 1
        assert "1 settlements did not reach the store; the journal keeps them" in meter.log()
        await redis7.start()
        async with taximeter(tmp_path / "two", upstream.url, **settings) as meter:
            [entry] = await entries(meter, 1)
            assert entry["cost_nanos"] == cost_of_all(upstream.served)
            await meter.scrape_until(lambda _: len(journals(meter)) == 1)  # the store has it for good
        assert journals(meter) == set()


@pytest.mark.slow
async def test_counters_stay_equal_to_the_ledger_over_kills(start: Start, upstream: ScriptedUpstream) -> None:
    async with start(upstream.url, workers=2, budget=[BUDGET]) as meter:
        sent = 0
        for _ in range(3):
            async with client() as http:
                answers = await asyncio.gather(
                    *(http.chat(meter.base_url, chat(FINE_TUNED, max_tokens=50)) for _ in range(20))
                )
                assert {answer.status for answer in answers} == {200}
                sent += len(answers)
            await meter.scrape_until(lambda s, sent=sent: s.value("taximeter_requests_total") == sent)  # type: ignore[misc]
            for pid in (killed := meter.workers()):
                os.kill(pid, signal.SIGKILL)
            await meter.scrape_until(lambda _: len(now := set(meter.workers())) == 2 and not now & set(killed))
        lines = await entries(meter, sent)
        scrape = await meter.scrape()
        assert len(lines) == scrape.value("taximeter_requests_total") == sent
        total = sum(line["cost_nanos"] for line in lines)
        assert round((scrape.value("taximeter_cost_dollars_total") or 0) * 1e9) == total == cost_of_all(upstream.served)
        assert scrape.value("taximeter_budget_held_dollars") == 0
