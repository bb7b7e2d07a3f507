"""A rate file that changes is read by itself; a wrong one changes nothing and says why. No request notices."""

import asyncio
import signal
import time
from pathlib import Path

import pytest

from proxy.cli.demo_upstream import ScriptedUpstream
from tests.system.client import Client, client
from tests.system.harness import FINE_TUNED, Start, Taximeter, chat

CARD = """\
[[card]]
model = "{model}"
provider = "openai"
effective_from = 2024-01-01
source = "contract 7"
checked = 2026-11-01
standard = {{ input = "{rate}", output = "0" }}
"""
SECONDS = 20.0


async def cost_of_one_prompt(http: Client, meter: Taximeter) -> str:
    """What the same request costs now: its input rate is the only one that is not zero."""
    answer = await http.chat(meter.base_url, chat(FINE_TUNED, max_tokens=1))
    assert answer.status == 200, answer
    cost = answer.header("x-taximeter-cost-usd")
    assert cost is not None
    return cost


async def until_it_costs(http: Client, meter: Taximeter, wanted: str) -> None:
    deadline = time.monotonic() + SECONDS
    while (cost := await cost_of_one_prompt(http, meter)) != wanted:
        assert time.monotonic() < deadline, f"still {cost}, not {wanted}\n{meter.log()}"
        await asyncio.sleep(0.1)


async def until_it_says(meter: Taximeter, words: str, times: int = 1) -> None:
    deadline = time.monotonic() + SECONDS
    while meter.log().count(words) < times:
        assert time.monotonic() < deadline, f"never said {words!r}\n{meter.log()}"
        await asyncio.sleep(0.05)


async def keep_asking(http: Client, meter: Taximeter, stop: asyncio.Event) -> int:
    """Whole replies and streams, one after the other. Every one of them must come whole."""
    asked = 0
    while not stop.is_set():
        answer = await http.chat(meter.base_url, chat("gpt-4o-mini", stream=asked % 2 == 1))
        assert (answer.status, answer.broken) == (200, False)
        asked += 1
    return asked


@pytest.mark.slow
async def test_a_changed_file_is_read_and_a_wrong_one_is_not(start: Start, tmp_path: Path) -> None:
    rates = tmp_path / "my-rates.toml"
    rates.write_text(CARD.format(model=FINE_TUNED, rate="1"))
    async with (
        ScriptedUpstream(chunk_seconds=0.01) as upstream,
        start(upstream.url, workers=2, rate_files=[str(rates)]) as meter,
        client() as http,
        asyncio.TaskGroup() as group,
    ):
        stop = asyncio.Event()
        asking = [group.create_task(keep_asking(http, meter, stop)) for _ in range(4)]
        before = await cost_of_one_prompt(http, meter)
        # Ten times the rate is ten times the cost: the same digits, a place further to the left.
        tenfold = f"{float(before) * 10:.9f}".rstrip("0")
        hundredfold = f"{float(before) * 100:.9f}".rstrip("0")

        rates.write_text(CARD.format(model=FINE_TUNED, rate="10"))
        await until_it_costs(http, meter, tenfold)

        rates.write_text(CARD.format(model=FINE_TUNED, rate="-1"))
        await until_it_says(meter, f"nothing was changed: {rates}:7: input = '-1' is below zero")
        assert {await cost_of_one_prompt(http, meter) for _ in range(10)} == {tenfold}

        new = tmp_path / "new.toml"
        new.write_text(CARD.format(model=FINE_TUNED, rate="100"))
        new.replace(rates)
        await until_it_costs(http, meter, hundredfold)

        rates.unlink()
        await until_it_says(meter, f"nothing was changed: {rates}: cannot be read: No such file")
        assert await cost_of_one_prompt(http, meter) == hundredfold

        rates.write_text(CARD.format(model=FINE_TUNED, rate="1"))
        meter.process.send_signal(signal.SIGHUP)
        await until_it_costs(http, meter, before)

        stop.set()
        assert sum([await each for each in asking]) > 20
        assert meter.log().count("nothing was changed") == 2, "a wrong file is named once, not at every look"
