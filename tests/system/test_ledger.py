"""Reports, budgets and ledger say the same to the nano, whatever became of the requests; and the ledger is followed."""

import asyncio
import json
import sys
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from proxy.cli.demo_upstream import ScriptedUpstream
from proxy.cli.small_http import HttpRequest
from tests.fakes.upstreams import FakeUpstream, breaks_off_stream, response
from tests.system.client import client
from tests.system.harness import FINE_TUNED, Start, Taximeter, chat, heeds_interrupts

BUDGETS: list[dict[str, Any]] = [
    {"name": "all", "limit_usd": "100", "period": "month", "on_exceed": "alert"},
    {"name": "each", "limit_usd": "100", "period": "total", "per": "owner", "on_exceed": "alert"},
]
CARDS = """\
[[card]]
provider = "openai"
model = "gpt-4o-mini"
effective_from = 2020-01-01
source = "https://example.invalid/contract"
checked = 2026-11-20

[card.standard]
input = "0.30"
output = "1.20"

[[card]]
provider = "openai"
model = "mystery"
effective_from = 2020-01-01
source = "https://example.invalid/contract"
checked = 2026-11-20

[card.standard]
input = "1"
output = "2"
"""


async def answers(request: HttpRequest, writer: asyncio.StreamWriter) -> None:
    """By the model that is asked for: a reply, an error, a stream that breaks off, or nothing and goodbye."""
    body = json.loads(request.body)
    match body["model"]:
        case "failing":
            writer.write(response("500 Oh", b'{"error": {"message": "no"}}'))
        case "gpt-4o":
            writer.close()
            return
        case _ if body.get("stream"):
            await breaks_off_stream(request, writer)
            return
        case model:
            served = "gpt-4o-mini-2024-07-18" if model == "gpt-4o-mini" else model
            usage = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}
            writer.write(response("200 OK", json.dumps({"id": "c1", "model": served, "usage": usage}).encode()))
    await writer.drain()


async def agree(meter: Taximeter) -> tuple[Mapping[str, Any], list[dict[str, Any]]]:
    """The report's total and the ledger's lines, after comparing all that there is with all else."""
    report = (await meter.json("report"))["total"]
    exported = await meter.cli("ledger", "export")
    assert exported.returncode == 0, exported.stderr
    lines = [json.loads(line) for line in exported.stdout.splitlines()]
    verified = await meter.cli("ledger", "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert report["cost_nanos"] == sum(line["cost_nanos"] or 0 for line in lines)
    assert report["requests"] == sum(line["requests"] for line in lines)
    for status in ("unpriced", "estimated", "presumed", "failed"):
        assert report[f"{status}_requests"] == sum(line["requests"] for line in lines if line["status"] == status)
    for kind, tokens in report["tokens"].items():
        assert tokens == sum(line["usage"].get(kind, 0) for line in lines)
    moved = {
        each["period"]: sum(
            other["nanos"] for line in lines for other in line["moved"] if other["period"] == each["period"]
        )
        for line in lines
        for each in line["moved"]
    }
    for budget in (await meter.json("budgets"))["budgets"]:
        [spent] = [nanos for key, nanos in moved.items() if key.startswith(f"{budget['name']}/")]
        assert (int(Decimal(budget["spent_usd"]) * 10**9), budget["held_usd"]) == (spent, "0")
        assert spent == report["cost_nanos"]
    return report, lines


@pytest.mark.slow  # twenty commands, each a process
async def test_report_budgets_and_ledger_agree_over_corrections(start: Start) -> None:
    async with FakeUpstream(answers) as upstream, start(upstream.url, budget=BUDGETS, workers=2) as meter:
        (meter.config.parent / "contract.toml").write_text(CARDS)
        async with client() as http:
            for model in ("gpt-4o-mini", "gpt-4o-mini", FINE_TUNED, "failing", "mystery"):
                await http.chat(meter.base_url, chat(model))
            await http.chat(meter.base_url, chat("gpt-4o-mini", stream=True))
            await http.chat(meter.base_url, chat("gpt-4o"))
        await meter.report(requests=7)
        before, lines = await agree(meter)
        assert [before[f"{status}_requests"] for status in ("estimated", "presumed", "failed", "unpriced")] == [
            1,
            1,
            1,
            1,
        ]
        cards = ("--with", "contract.toml", "--since", lines[0]["at"])
        told = await meter.json("ledger", "reprice", *cards)
        assert (await agree(meter))[0] == before  # it only said so
        applied = await meter.json("ledger", "reprice", *cards, "--apply")
        after, corrected = await agree(meter)
        again = await meter.json("ledger", "reprice", *cards, "--apply")
        assert (await agree(meter))[0] == after
    assert told["total"]["difference_nanos"] == after["cost_nanos"] - before["cost_nanos"] > 0
    assert applied["applied"] == told["total"]["changed"] == 4
    assert again["applied"] == 0
    assert len(corrected) == len(lines) + 2 * 4
    assert {line["id"] for line in corrected} == {line["id"] for line in lines}


async def test_the_ledger_is_followed(start: Start, upstream: ScriptedUpstream) -> None:
    async with start(upstream.url) as meter, client() as http:
        await http.chat(meter.base_url, chat(FINE_TUNED))
        follower = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "proxy.cli.main", "ledger", "tail", "--follow", "--json", "-n", "1"),
            env=meter.environ,
            cwd=meter.config.parent,
            stdout=asyncio.subprocess.PIPE,
            preexec_fn=heeds_interrupts,
        )
        try:
            assert follower.stdout is not None
            async with asyncio.timeout(30):
                first = json.loads(await follower.stdout.readline())
                answer = await http.chat(meter.base_url, chat("gpt-4o-mini"))
                second = json.loads(await follower.stdout.readline())
            follower.send_signal(2)
            code = await asyncio.wait_for(follower.wait(), 10)
        finally:
            if follower.returncode is None:
                follower.kill()
                await follower.wait()
        shown = await meter.json("ledger", "show", second["id"])
    assert (first["served_model"], second["served_model"]) == (FINE_TUNED, "gpt-4o-mini-2024-07-18")
    assert answer.header("x-taximeter-entry") == second["id"] == shown["id"]
    assert code == 130
    assert [shown["current"]["status"], shown["current"]["upstream_status"]] == ["reported", 200]
    assert shown["current"]["upstream_request_id"] == answer.header("x-request-id") is not None
