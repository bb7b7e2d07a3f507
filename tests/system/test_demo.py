"""`taximeter demo`: what a new user sees, and that nothing of it is left afterwards."""

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import pytest

from rates.money import usd_text
from tests.system.harness import environment, left_behind, run_cli


@pytest.fixture
def elsewhere(tmp_path: Path) -> tuple[Mapping[str, str], Path, Path]:
    """A directory with a `proxy` folder and a broken configuration of its own, and a place for temporary files."""
    here, temporary = tmp_path / "here", tmp_path / "tmp"
    (here / "proxy").mkdir(parents=True)
    (here / "proxy" / "__init__.py").write_text("raise SystemExit('the wrong proxy')")
    (here / "taximeter.toml").write_text("nonsense = 1\n")
    temporary.mkdir()
    environ = environment(
        TMPDIR=str(temporary), TAXIMETER_LISTEN="127.0.0.1:1", TAXIMETER_REDIS_URL="redis://127.0.0.1:1/0"
    )
    environ["PYTHONSAFEPATH"] = "1"  # as the installed command, which does not put the current directory first
    return environ, here, temporary


async def test_json(elsewhere: tuple[Mapping[str, str], Path, Path]) -> None:
    environ, here, temporary = elsewhere
    began = time.monotonic()
    done = await run_cli("demo", "--json", environ=environ, cwd=here)
    took = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    assert took < 20
    found = json.loads(done.stdout)
    assert found["equal"] is True
    report = found["report"]
    assert report["total"]["cost_nanos"] == found["upstream"]["cost_nanos"] > 0
    assert report["total"]["cost_usd"] == usd_text(found["upstream"]["cost_nanos"])
    assert report["total"]["requests"] == found["requests"]["served"]
    assert report["total"]["unpriced_requests"] == 0
    assert found["requests"]["served"] + found["requests"]["refused"] == found["requests"]["sent"]
    assert {row["fine_tuned"] for row in found["fine_tuned"]["rows"]} == {True, False}
    # It crossed 80%, and only then refused; never more than its limit was spent.
    assert 0.8 <= found["alert"]["used_ratio"] <= 1
    assert found["requests"]["refused"] > 0
    assert found["first_refusal"]["type"] == "insufficient_quota"
    assert found["first_refusal"]["code"] in ("budget_exceeded", "budget_held")
    budgets = {row["name"]: row for row in found["budgets"]}
    refusing = budgets[found["alert"]["budget"]]
    assert (
        Decimal("0.8") * Decimal(refusing["limit_usd"])
        < Decimal(refusing["spent_usd"])
        <= Decimal(refusing["limit_usd"])
    )
    assert {row["held_usd"] for row in budgets.values()} == {"0"}
    assert await left_behind(temporary) == []
    assert list(temporary.iterdir()) == []


async def test_what_a_person_sees(elsewhere: tuple[Mapping[str, str], Path, Path]) -> None:
    environ, here, temporary = elsewhere
    done = await run_cli("demo", "--keep", environ=environ, cwd=here)
    assert done.returncode == 0, done.stderr
    crossed, refused, verdict = (
        re.search(pattern, done.stdout)
        for pattern in (
            r"(\d+) requests sent: the budget demo-acme has crossed 80%",
            r'(\d+) requests sent: the first refusal.*\n +429 budget_\w+: "budget demo-acme: \$0\.0\d+ of \$0\.02 used',
            r"The report's total equals the upstream's own log, to the nano-dollar",
        )
    )
    assert crossed is not None, done.stdout
    assert refused is not None, done.stdout
    assert verdict is not None, done.stdout
    assert int(crossed[1]) <= int(refused[1])
    assert "ft:gpt-4o-mini-2024-07-18:acme::abc123" in done.stdout
    assert "fine-tuned" in done.stdout
    assert "\x1b" not in done.stdout
    # Kept: the data can still be read, by the store started again for the call.
    [kept] = temporary.iterdir()
    assert str(kept) in done.stderr
    clean = {name: value for name, value in environ.items() if not name.startswith("TAXIMETER_")}
    again = await run_cli("report", "--json", "--config", str(kept / "taximeter.toml"), environ=clean, cwd=here)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["total"]["cost_nanos"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("after", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
async def test_interrupted(elsewhere: tuple[Mapping[str, str], Path, Path], how: signal.Signals, after: float) -> None:
    environ, here, temporary = elsewhere
    with (here / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "proxy.cli.main", "demo"], env=environ, cwd=here, stdout=log, stderr=log
        )
    try:
        await asyncio.sleep(after)
        process.send_signal(how)
        code = await asyncio.to_thread(process.wait, 15)
    finally:
        process.kill()
        process.wait()
    said = (here / "log").read_text()
    # Very early, before the command has begun, the interpreter itself ends; late, on a fast machine, it is done.
    assert code in (0, 130, -how), said
    assert "Exception ignored" not in said
    if after > 0.3:
        assert "Traceback" not in said, said
    assert await left_behind(temporary) == []
    if code == 130:
        assert list(temporary.iterdir()) == []
