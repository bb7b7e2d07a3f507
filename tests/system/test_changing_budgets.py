"""Budgets that change while traffic flows: read again, raised for a time; what was spent stays."""

import asyncio
import json
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from proxy.cli.demo_upstream import ScriptedUpstream
from tests.system.client import Answer, Client, client
from tests.system.harness import Redis7, Start, Taximeter, chat, one_line, taximeter, to_toml


def budget(limit: str, **more: Any) -> dict[str, Any]:
    return {"name": "all", "limit_usd": limit, "period": "total", **more}


async def ask(http: Client, meter: Taximeter) -> Answer:
    return await http.chat(meter.base_url, chat("gpt-4o", max_tokens=100))


async def spend(http: Client, meter: Taximeter, requests: int) -> Decimal:
    """What so many requests cost, as the budget shows it when they are settled."""
    for _ in range(requests):
        answer = await ask(http, meter)
        assert answer.status == 200, answer
    await meter.report(requests=requests)
    return Decimal((await use(meter))["spent_usd"])


async def use(meter: Taximeter) -> Any:
    return (await meter.json("budgets"))["budgets"][0]


async def reload(meter: Taximeter, *budgets: dict[str, Any]) -> str:
    """Change the configuration and let it be read again; what the command said."""
    text = meter.config.read_text()
    head = text.partition("\n[[budget]]")[0]
    meter.config.write_text(head + (to_toml({"budget": list(budgets)}) if budgets else ""))
    done = await meter.cli("budgets", "reload")
    assert done.returncode == 0, done
    return done.stdout


async def status_within(http: Client, meter: Taximeter, status: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (answer := await ask(http, meter)).status != status:
        assert time.monotonic() < deadline, answer
        await asyncio.sleep(0.1)


@pytest.mark.slow
async def test_a_limit_goes_up_and_down_and_what_was_spent_stays(start: Start, upstream: ScriptedUpstream) -> None:
    async with start(upstream.url, workers=2, budget=[budget("1")]) as meter, client() as http:
        spent = await spend(http, meter, 4)
        assert spent > 0

        said = await reload(meter, budget("0.000001"))
        assert said == "budget all: limit_usd $1 → $0.000001; what it has spent stays\n"
        answers = [await ask(http, meter) for _ in range(6)]  # of both workers, at once: the command has waited
        assert {(answer.status, answer.code) for answer in answers} == {(429, "budget_exceeded")}
        assert Decimal((await use(meter))["spent_usd"]) == spent

        said = await reload(meter, budget("2", model="gpt-4o*"))
        assert said == "budget all: limit_usd $0.000001 → $2, model (none) → gpt-4o*; what it has spent stays\n"
        assert (await ask(http, meter)).status == 200
        await meter.report(requests=5)
        more = Decimal((await use(meter))["spent_usd"])
        assert more > spent

        assert "removed" in await reload(meter)
        assert (await ask(http, meter)).status == 200
        assert "added" in await reload(meter, budget("2"))
        assert Decimal((await use(meter))["spent_usd"]) == more  # nothing was counted while it was away


async def test_a_wrong_configuration_changes_nothing_and_says_why(start: Start, upstream: ScriptedUpstream) -> None:
    async with start(upstream.url, budget=[budget("1")]) as meter, client() as http:
        good = meter.config.read_text()
        for wrong, reason in (
            (good.replace('"1"', '"-1"'), "limit_usd"),
            (
                good + to_toml({"budget": [{"name": f"b{n}", "limit_usd": "1", "period": "day"} for n in range(40)]}),
                "at most 32",
            ),
        ):
            meter.config.write_text(wrong)
            done = await meter.cli("budgets", "reload")
            assert done.returncode == 2
            assert reason in one_line(done.stderr)
        assert (await ask(http, meter)).status == 200
        meter.config.write_text(good)
        done = await meter.cli("budgets", "reload")
        assert (done.returncode, done.stdout) == (0, "read again; nothing is different\n")
        assert json.loads((await meter.cli("budgets", "--json", "reload")).stdout) == {"changes": []}


async def test_nobody_serves_there(start: Start, upstream: ScriptedUpstream) -> None:
    async with start(upstream.url, budget=[budget("1")]) as meter:
        await meter.stop()
        done = await meter.cli("budgets", "reload")
    assert done.returncode == 2
    assert "no taximeter serves" in one_line(done.stderr)


@pytest.mark.slow
async def test_a_raise_is_in_force_within_five_seconds_in_every_proxy(
    tmp_path: Path, upstream: ScriptedUpstream, redis7: Redis7
) -> None:
    settings: dict[str, Any] = {"redis_url": redis7.url, "workers": 2, "budget": [budget("0.000001")]}
    async with (
        taximeter(tmp_path / "one", upstream.url, **settings) as one,
        taximeter(tmp_path / "two", upstream.url, **settings) as two,
        client() as http,
    ):
        assert {(await ask(http, meter)).code for meter in (one, two)} == {"budget_exceeded"}

        done = await one.cli("budgets", "raise", "all", "--to", "1", "--until", "1h", "--why", "launch night")
        assert done.returncode == 0, done
        assert done.stdout.startswith("budget all: $1.00 instead of $0.000001 until ")
        raised_at = time.monotonic()
        for meter in (one, two):
            await status_within(http, meter, 200, 5.0)
        assert time.monotonic() - raised_at < 5.0
        for meter in (one, two):
            assert {(await ask(http, meter)).status for _ in range(8)} == {200}  # of both its workers
            scrape = await meter.scrape_until(lambda s: s.value("taximeter_budget_limit_dollars") == 1)
            assert scrape.value("taximeter_budget_limit_dollars") == 1
        shown = await use(two)
        assert (shown["limit_usd"], shown["raised"]["why"]) == ("1", "launch night")
        assert "launch night" in (await two.cli("budgets")).stdout

        done = await one.cli("budgets", "reload")  # rules that are read again stay raised
        assert done.returncode == 0
        assert (await ask(http, one)).status == 200


async def test_what_is_no_raise_is_refused(start: Start, upstream: ScriptedUpstream) -> None:
    async with start(upstream.url, budget=[budget("1")]) as meter:
        for words, reason in (
            (("all", "--to", "1", "--until", "1h"), "is no raise"),
            (("all", "--to", "0.5", "--until", "1h"), "is no raise"),
            (("all", "--to", "1e3", "--until", "1h"), "must be plain digits"),
            (("all", "--to", "2", "--until", "2001-01-01"), "that is past"),
            (("al", "--to", "2", "--until", "1h"), 'did you mean "all"?'),
            (("all", "--to", "2", "--until", "1h", "--owner", "acme"), "leave --owner out"),
        ):
            done = await meter.cli("budgets", "raise", *words, "--why", "x")
            assert done.returncode == 2
            assert reason in one_line(done.stderr)
        assert (await use(meter))["raised"] is None


@pytest.mark.slow
async def test_a_new_budget_with_backfill_counts_what_the_ledger_has(
    tmp_path: Path, upstream: ScriptedUpstream, redis7: Redis7
) -> None:
    """Of two proxies only one knows the new budget; what passes through the other counts all the same, once."""
    settings: dict[str, Any] = {"redis_url": redis7.url, "budget": [budget("1")]}
    async with (
        taximeter(tmp_path / "one", upstream.url, **settings) as one,
        taximeter(tmp_path / "two", upstream.url, **settings) as two,
        client() as http,
    ):
        await spend(http, one, 3)
        new = {"name": "filled", "limit_usd": "1", "period": "month", "backfill": True}
        said = await reload(one, budget("1"), new)
        assert "budget filled: added, limit $1 a month; it counts from the ledger's entries of its period" in said
        for meter in (two, one, two):
            assert (await ask(http, meter)).status == 200
        report = await one.report(requests=6)

        deadline = time.monotonic() + 30
        while (spent := await spent_of(one, "filled")) != report["total"]["cost_usd"]:
            assert time.monotonic() < deadline, (spent, report["total"], one.log())
            await asyncio.sleep(0.2)
        done = await one.cli("ledger", "verify")
        assert done.returncode == 0, done

        trimmed = {"name": "late", "limit_usd": "1", "period": "total", "backfill": True}
        await asyncio.to_thread(trim_one_line, redis7)
        one.config.write_text(one.config.read_text() + to_toml({"budget": [trimmed]}))
        done = await one.cli("budgets", "reload")
        assert done.returncode == 2
        assert 'nothing was changed: budget "late": backfill = true needs every ledger line' in one_line(done.stderr)


async def spent_of(meter: Taximeter, name: str) -> str:
    [found] = [each for each in (await meter.json("budgets"))["budgets"] if each["name"] == name]
    spent: str = found["spent_usd"]
    return spent


def trim_one_line(redis7: Redis7) -> None:
    """As the retention leaves it behind."""
    import redis

    with redis.Redis.from_url(redis7.url, decode_responses=True) as store:
        lines: Any = store.xrange("{taximeter}:ledger", count=1)
        store.hset("{taximeter}:trimmed", mapping={"place": lines[0][0], "lines": 1})


@pytest.mark.slow
async def test_a_wiped_store_is_acknowledged_while_serve_runs(
    start: Start, upstream: ScriptedUpstream, redis7: Redis7
) -> None:
    import redis

    async with start(upstream.url, redis_url=redis7.url, workers=2, budget=[budget("1")]) as meter, client() as http:
        done = await meter.cli("budgets", "acknowledge")
        assert (done.returncode, done.stdout.partition(":")[0]) == (0, "nothing is to be acknowledged")
        assert (await ask(http, meter)).status == 200
        with redis.Redis.from_url(redis7.url) as store:
            store.flushall()
        await redis7.stop()
        await redis7.start()
        await status_within(http, meter, 503, 20.0)

        done = await meter.cli("budgets", "acknowledge", "--why", "new disk")
        assert done.returncode == 0, done
        await status_within(http, meter, 200, 10.0)
        audit = await meter.json("ledger", "audit")
    assert "new disk" in json.dumps(audit)
