"""`report` and `budgets` end to end: what was settled in a real store is what people and programs read."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from proxy.budgets.account import Account
from proxy.budgets.budget import Budget
from proxy.budgets.period import PeriodKind, period_at
from proxy.ledger.entry import LedgerEntry
from proxy.store import Store, embedded_store
from tests.cli.running import Cli

TUNED = "ft:gpt-4o-mini-2024-07-18:acme::abc123"
CONFIGURATION = """\
[[budget]]
name = "acme-monthly"
limit_usd = "0.001"
period = "month"
owner = "acme"

[[budget]]
name = "each"
limit_usd = "0.01"
period = "total"
per = "owner"

[[budget]]
name = "each-new"
limit_usd = 1
period = "day"
per = "owner"

[[budget]]
name = "nothing"
limit_usd = 0
period = "total"
model = "no-such-model"
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with embedded_store(tmp_path_factory.mktemp("data")) as url:
        asyncio.run(_settle(url))
        yield url


@pytest.fixture(autouse=True)
def _configured(tmp_path: Path) -> None:
    """Every command line of this file runs in a directory that holds the configuration."""
    (tmp_path / "taximeter.toml").write_text(CONFIGURATION)


async def _settle(url: str) -> None:
    """Two priced requests and one unpriced one, today."""
    now = datetime.now(UTC)
    month = period_at(PeriodKind.MONTH, "UTC", now)
    forever = period_at(PeriodKind.TOTAL, "UTC", now)
    monthly = Budget(name="acme-monthly", limit=10**6, period=PeriodKind.MONTH, owner="acme")
    each = Budget(name="each", limit=10**7, period=PeriodKind.TOTAL, per_owner=True)
    digest = "key-" + "1a2b3c4d" * 8
    store = await Store.open(url, writer="test", timeout=5)
    acme = [Account(monthly, month), Account(each, forever, "acme")]
    store.settle(_entry("1", "acme", TUNED, 900_000, now), acme)
    store.settle(_entry("2", digest, "gpt-4o-mini-2024-07-18", 50_000, now), [Account(each, forever, digest)])
    store.settle(_entry("3", digest, "mystery", None, now), [Account(each, forever, digest)])
    assert await store.close(5) == 0


def _entry(entry_id: str, owner: str, model: str, nanos: int | None, at: datetime) -> LedgerEntry:
    return LedgerEntry(
        id=entry_id,
        at=at.isoformat(),
        owner=owner[:12],
        endpoint="chat/completions",
        asked_model=model,
        served_model=model,
        tier="standard",
        status="unpriced" if nanos is None else "reported",
        usage={"input": 1000, "output": 500},
        card=None if nanos is None else "card",
        provenance=None if nanos is None else "exact",
        cost_nanos=nanos,
    )


def test_report_as_json(cli: Cli, url: str) -> None:
    code, out, err = cli("report", "--redis-url", url, "--json")

    found = json.loads(out)
    assert (code, err) == (0, "")
    assert [(row["model"], row["requests"], row["cost_usd"], row["cost_nanos"]) for row in found["rows"]] == [
        (TUNED, 1, "0.0009", 900_000),
        ("gpt-4o-mini-2024-07-18", 1, "0.00005", 50_000),
        ("mystery", 1, None, None),
    ]
    assert found["total"]["tokens"] == {"input": 3000, "output": 1500}
    assert (found["total"]["cost_nanos"], found["total"]["unpriced_requests"]) == (950_000, 1)


def test_report_by_several_keys(cli: Cli, url: str) -> None:
    _, out, _ = cli("report", "--redis-url", url, "--json", "--by", "owner,fine_tuned,day", "--since", f"{_today()}")

    assert [[row[key] for key in ("owner", "fine_tuned", "day", "cost_nanos")] for row in json.loads(out)["rows"]] == [
        ["acme", True, _today(), 900_000],
        ["key-1a2b3c4d", False, _today(), 50_000],
    ]


def test_report_of_other_days_is_empty(cli: Cli, url: str) -> None:
    code, out, _ = cli("report", "--redis-url", url, "--since", "2025-01-01", "--until", "2025-02-01")
    _, data, _ = cli("report", "--redis-url", url, "--since", "2025-01-01", "--until", "2025-02-01", "--json")

    assert (code, out) == (0, "No requests from 2025-01-01 to 2025-01-31, whole days in UTC.\n")
    assert json.loads(data)["rows"] == []
    assert json.loads(data)["total"]["cost_usd"] == "0"


def test_report_for_people(cli: Cli, url: str) -> None:
    code, out, err = cli("report", "--redis-url", url)

    assert (code, err) == (0, "")
    assert "$0.00090" in out
    assert "1 request unpriced: no rate card" in out
    assert "\x1b" not in out


def test_budgets_as_json(cli: Cli, url: str) -> None:
    code, out, err = cli("budgets", "--redis-url", url, "--json")

    assert (code, err) == (0, "")
    found: list[dict[str, Any]] = json.loads(out)["budgets"]
    assert [(row["name"], row["owner"], row["spent_usd"], row["held_usd"], row["used_ratio"]) for row in found] == [
        ("acme-monthly", None, "0.0009", "0", 0.9),
        ("each", "acme", "0.0009", "0", 0.09),
        ("each", "key-1a2b3c4d", "0.00005", "0", 0.005),
        ("each-new", None, "0", "0", 0.0),
        ("nothing", None, "0", "0", None),
    ]
    assert [row["period"] for row in found] == ["month", "total", "total", "day", "total"]
    assert found[0]["resets_at"].endswith("-01T00:00:00Z")
    assert found[1]["resets_at"] is None


def test_budgets_for_people(cli: Cli, url: str) -> None:
    code, out, err = cli("budgets", "--redis-url", url)

    assert (code, err) == (0, "")
    assert " ██████████████████░░ " in out
    assert "90.0%" in out
    assert "(none yet)" in out


def test_no_budgets_says_how_to_add_one(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "taximeter.toml").write_text("")

    code, out, _ = cli("budgets", "--redis-url", "redis://127.0.0.1:1")  # nobody is asked
    _, data, _ = cli("budgets", "--redis-url", "redis://127.0.0.1:1", "--json")

    assert code == 0
    assert f"No budgets are configured. Add one to {tmp_path}/taximeter.toml" in out
    example = out[out.index("[[budget]]") :]
    (tmp_path / "taximeter.toml").write_text(example)
    assert json.loads(data) == {"budgets": []}
    assert "all-monthly" in cli("budgets", "--data-dir", "data")[1]


def test_the_embedded_store_is_started_for_the_call(cli: Cli, tmp_path: Path) -> None:
    code, out, err = cli("report", "--data-dir", "data", "--json")

    assert (code, json.loads(out)["rows"], err) == (0, [], "")
    assert (tmp_path / "data").is_dir()


@pytest.mark.parametrize("command", ["report", "budgets"])
def test_a_store_that_is_not_there_is_one_line(cli: Cli, command: str) -> None:
    code, out, err = cli(command, "--redis-url", "redis://:pa55@127.0.0.1:1")

    assert (code, out) == (1, "")
    assert err.startswith("taximeter: ")
    assert err.count("\n") == 1
    assert "pa55" not in err


def test_a_wrong_configuration_is_one_line(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "taximeter.toml").write_text("[[budget]]\nlimitusd = 1\n")

    assert cli("budgets") == (
        2,
        "",
        'taximeter: taximeter.toml: budget number 1: unknown key "limitusd"; did you mean "limit_usd"?\n',
    )


def test_a_wrong_argument_asks_no_store(cli: Cli) -> None:
    code, out, err = cli("report", "--by", "modle", "--redis-url", "redis://127.0.0.1:1")

    assert (code, out) == (2, "")
    assert 'did you mean "model"?' in err


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
