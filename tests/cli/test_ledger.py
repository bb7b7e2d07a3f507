"""`taximeter ledger` end to end: what was settled in a real store is what people and programs read."""

import asyncio
import csv
import io
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from proxy.admission import mint_entry_id
from proxy.budgets import Account, Budget, PeriodKind, period_at
from proxy.ledger.entry import LedgerEntry, Moved
from proxy.reports.ledger_lines import FIELDS
from proxy.store import Store, embedded_store, keys
from rates import load_catalogue, parse_model_name
from tests.cli.running import Cli
from tests.store.cases import entry
from tests.store.reading import open_reads
from tests.store.servers import Server
from tests.system.harness import environment, heeds_interrupts

NOW = datetime.now(UTC).replace(microsecond=0)
BEGUN = [NOW - timedelta(minutes=minutes) for minutes in (30, 20, 10)]
IDS = [mint_entry_id(at) for at in BEGUN]
MODEL = "gpt-4o-mini-2024-07-18"
FORMULA = '=HYPERLINK("http://127.0.0.1")'
CONTRACT = {
    *(
        "id",
        "line",
        "kind",
        "at",
        "owner",
        "endpoint",
        "asked_model",
        "served_model",
        "tier",
        "status",
        "usage",
        "card",
    ),
    *("provenance", "cost_nanos", "upstream_id", "client_request_id", "upstream_status", "latency_ms"),
}


def lines() -> list[LedgerEntry]:
    """A priced one, an unpriced one whose name is a spreadsheet's formula, a failed one."""
    budget = Budget(name="acme-monthly", limit=10**6, period=PeriodKind.MONTH)
    key = Account(budget, period_at(PeriodKind.MONTH, "UTC", NOW)).key
    at = [each.isoformat(timespec="milliseconds").replace("+00:00", "Z") for each in BEGUN]
    usage = {"input": 1000, "output": 500}
    card = load_catalogue().find(parse_model_name(MODEL), provider="openai", tier=None, at=NOW).card.id
    return [
        entry(IDS[0], 450_000, at=at[0], usage=usage, card=card, moved=(Moved(budget.name, key, 450_000),)),
        entry(IDS[1], None, at=at[1], asked_model=FORMULA, served_model=FORMULA, moved=(Moved(budget.name, key, 0),)),
        entry(IDS[2], 0, at=at[2], status="failed", usage={}, card=None, upstream_status=500, latency_ms=12),
    ]


async def _settle(url: str) -> None:
    async with await Store.open(url, writer="test", timeout=5) as store:
        budget = Budget(name="acme-monthly", limit=10**6, period=PeriodKind.MONTH)
        account = Account(budget, period_at(PeriodKind.MONTH, "UTC", NOW))
        for line in lines():
            store.settle(line, [account])


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with embedded_store(tmp_path_factory.mktemp("data")) as url:
        asyncio.run(_settle(url))
        yield url


def test_tail_for_people(cli: Cli, url: str) -> None:
    code, out, err = cli("ledger", "tail", "-n", "2", "--redis-url", url)

    head, *rows = out.splitlines()
    assert (code, err) == (0, "")
    assert head.split()[:4] == ["local", "time", "owner", "model"]
    assert [row.rpartition("  ")[2] for row in rows] == IDS[1:]
    assert "unpriced" in rows[0]
    assert "$0.00  failed" in rows[1]


@pytest.mark.parametrize("number", ["3", "4", "5", "20"])
def test_tail_of_a_ledger_with_fewer_lines(cli: Cli, url: str, number: str) -> None:
    _, out, _ = cli("ledger", "tail", "-n", number, "--redis-url", url)

    assert [row.rpartition("  ")[2] for row in out.splitlines()[1:]] == IDS


def test_tail_for_programs(cli: Cli, url: str) -> None:
    code, out, _ = cli("ledger", "tail", "--json", "--redis-url", url)

    found = [json.loads(line) for line in out.splitlines()]
    assert (code, [line["id"] for line in found]) == (0, IDS)
    assert found[0]["cost_nanos"] == 450_000
    assert found[1]["cost_nanos"] is None


@pytest.mark.parametrize("number", ["-1", "x"])
def test_a_number_of_lines_that_is_none(cli: Cli, number: str) -> None:
    code, _, err = cli("ledger", "tail", "-n", number)

    assert code == 2
    assert err.count("\n") == 1


def test_show_says_where_the_cost_comes_from(cli: Cli, url: str) -> None:
    code, out, err = cli("ledger", "show", IDS[0].upper(), "--redis-url", url)

    assert (code, err) == (0, "")
    assert "acme-monthly/" in out
    assert [line.split() for line in out.splitlines() if line.startswith(("input", "output", "total"))] == [
        ["input", "1,000", "$0.15", "$0.00015"],
        ["output", "500", "$0.6", "$0.0003"],
        ["total", "$0.00045"],
    ]


def test_show_for_programs(cli: Cli, url: str) -> None:
    _, out, _ = cli("ledger", "show", IDS[0], "--json", "--redis-url", url)

    found = json.loads(out)
    assert (found["id"], len(found["lines"]), found["current"]) == (IDS[0], 1, found["lines"][0])
    assert [(line["kind"], line["cost_usd"]) for line in found["charge"]] == [
        ("input", "0.00015"),
        ("output", "0.0003"),
    ]


def test_show_without_a_price(cli: Cli, url: str) -> None:
    code, out, _ = cli("ledger", "show", IDS[1], "--redis-url", url)

    assert code == 0
    assert "Cost: unpriced." in out


def test_show_of_what_is_not_there(cli: Cli, url: str) -> None:
    code, out, err = cli("ledger", "show", mint_entry_id(NOW), "--redis-url", url)

    assert (code, out) == (1, "")
    assert "the ledger has no entry" in err


@pytest.mark.parametrize(
    "text", ["x", "chatcmpl-123", "123e4567-e89b-42d3-a456-426614174000", "01a201add0507008a51bbeafc5cb9647"]
)
def test_show_of_what_is_no_id(cli: Cli, text: str) -> None:
    code, _, err = cli("ledger", "show", text)

    assert code == 2
    assert err == f'taximeter: "{text}" is no entry id: the x-taximeter-entry header of a response has it\n'


def test_export_as_json_lines_keeps_the_contract(cli: Cli, url: str) -> None:
    code, out, err = cli("ledger", "export", "--redis-url", url)

    found = [json.loads(line) for line in out.splitlines()]
    assert (code, err, [line["id"] for line in found]) == (0, "", IDS)
    assert all(tuple(line) == FIELDS and set(line) >= CONTRACT for line in found)
    assert {name: found[0][name] for name in ("line", "kind", "usage", "cost_nanos", "cost_usd", "requests")} == {
        "line": "entry",
        "kind": "inference",
        "usage": {"input": 1000, "output": 500},
        "cost_nanos": 450_000,
        "cost_usd": "0.00045",
        "requests": 1,
    }
    assert found[0]["moved"][0]["budget"] == "acme-monthly"
    assert (found[1]["cost_nanos"], found[1]["cost_usd"], found[1]["served_model"]) == (None, None, FORMULA)


def test_export_by_the_time_at_which_requests_began(cli: Cli, url: str) -> None:
    since, until = (at.isoformat().replace("+00:00", "Z") for at in BEGUN[1:])

    _, out, _ = cli("ledger", "export", "--since", since, "--until", until, "--redis-url", url)

    assert [json.loads(line)["id"] for line in out.splitlines()] == [IDS[1]]


def test_export_as_csv(cli: Cli, url: str, tmp_path: Path) -> None:
    code, out, _ = cli("ledger", "export", "--format", "csv", "-o", "ledger.csv", "--redis-url", url)

    rows = list(csv.DictReader(io.StringIO((tmp_path / "ledger.csv").read_text())))
    assert (code, out, [row["id"] for row in rows]) == (0, "", IDS)
    first, second, third = rows
    assert (first["usage_input"], first["usage_output"], first["usage_cached_input"]) == ("1000", "500", "0")
    assert (first["cost_nanos"], first["cost_usd"], first["assumed"]) == ("450000", "0.00045", "false")
    assert json.loads(first["moved"])[0]["nanos"] == 450_000
    assert (second["cost_nanos"], second["served_model"]) == ("", "'" + FORMULA)
    assert (third["latency_ms"], third["status"]) == ("12", "failed")


def test_export_as_parquet(cli: Cli, url: str, tmp_path: Path) -> None:
    code, _, _ = cli("ledger", "export", "--format", "parquet", "-o", "ledger.parquet", "--redis-url", url)

    table = pyarrow.parquet.read_table(tmp_path / "ledger.parquet")
    rows: list[dict[str, Any]] = table.to_pylist()
    types = {name: str(table.schema.field(name).type) for name in ("at", "cost_nanos", "usage")}
    assert (code, table.column_names) == (0, list(FIELDS))
    assert types == {"at": "timestamp[ms, tz=UTC]", "cost_nanos": "int64", "usage": "map<string, int64 ('usage')>"}
    assert [row["id"] for row in rows] == IDS
    assert (rows[0]["at"], rows[0]["usage"], rows[0]["cost_nanos"]) == (
        BEGUN[0],
        [("input", 1000), ("output", 500)],
        450_000,
    )
    assert rows[1]["cost_nanos"] is None
    assert rows[0]["moved"][0]["nanos"] == 450_000


def test_export_without_pyarrow_says_what_to_install(cli: Cli, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)

    code, out, err = cli("ledger", "export", "--format", "parquet", "-o", "x.parquet", "--redis-url", url)

    assert (code, out) == (1, "")
    assert err == "taximeter: --format parquet needs pyarrow: pip install 'taximeter[parquet]'\n"
    assert list(Path().glob("*x.parquet*")) == []


def test_an_export_that_breaks_off_leaves_the_old_file(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "ledger.csv").write_text("old")

    code, _, err = cli("ledger", "export", "--format", "csv", "-o", "ledger.csv", "--redis-url", "redis://127.0.0.1:1")

    assert (code, err.count("\n")) == (1, 1)
    assert (tmp_path / "ledger.csv").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir() if "ledger" in path.name] == ["ledger.csv"]


def test_an_export_into_a_directory_that_is_not_there(cli: Cli, url: str) -> None:
    code, _, err = cli("ledger", "export", "-o", "nowhere/ledger.jsonl", "--redis-url", url)

    assert (code, err) == (2, "taximeter: nowhere/ledger.jsonl: No such file or directory\n")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--since", "soon"), '--since "soon": write a date as YYYY-MM-DD, or a time as 2026-11-22T00:00:00Z'),
        (
            ("--since", "2026-11-02", "--until", "2026-11-02"),
            "--until 2026-11-02: must be later than --since 2026-11-02; it is not included itself",
        ),
    ],
)
def test_a_span_of_time_that_is_none(cli: Cli, words: tuple[str, ...], complaint: str) -> None:
    assert cli("ledger", "export", *words) == (2, "", f"taximeter: {complaint}\n")


def test_verify(cli: Cli, url: str) -> None:
    code, out, err = cli("ledger", "verify", "--redis-url", url)

    assert (code, err) == (0, "")
    assert out.startswith(
        "Budgets and sums follow from the ledger: 3 lines, 0 of them corrections; 1 account, 0 holds, "
    )


def test_verify_for_programs(cli: Cli, url: str) -> None:
    code, out, _ = cli("ledger", "verify", "--json", "--redis-url", url)

    found = json.loads(out)
    assert (code, found["ok"], found["lines"], found["difference"]) == (0, True, 3, None)


def test_verify_says_the_first_difference(cli: Cli, url: str) -> None:
    key = lines()[0].moved[0].period

    async def add(nanos: int) -> None:
        async with open_reads(url) as reads:
            await reads.call("INCRBY", keys.committed(key), nanos)

    asyncio.run(add(5))
    try:
        code, out, err = cli("ledger", "verify", "--redis-url", url)
        coded, data, _ = cli("ledger", "verify", "--json", "--redis-url", url)
    finally:
        asyncio.run(add(-5))

    assert (code, err, coded) == (1, "", 1)
    assert out == (
        f"The first difference: account {key} has spent $0.000450005 (450005 nanos); "
        "by the ledger it is $0.00045 (450000 nanos)\n"
    )
    assert json.loads(data)["difference"] == {
        "what": "spent",
        "where": key,
        "expected": 450_000,
        "found": 450_005,
        "reason": None,
    }


def test_audit_of_nothing(cli: Cli, url: str) -> None:
    assert cli("ledger", "audit", "--redis-url", url) == (0, "Nobody has changed anything.\n", "")


@pytest.mark.parametrize("action", ["tail", "show", "export", "verify", "reprice", "audit"])
def test_every_action_has_help_with_an_example(cli: Cli, action: str) -> None:
    code, out, _ = cli("ledger", action, "--help")

    assert code == 0
    assert f"example:\n  taximeter ledger {action}" in out


def test_an_empty_ledger(cli: Cli) -> None:
    assert cli("ledger", "tail", "--data-dir", "data") == (0, "The ledger has no entries.\n", "")
    assert cli("ledger", "export", "--data-dir", "data") == (0, "", "")


def test_following_waits_for_a_store_that_is_away(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="tm-") as path:
        server = Server("valkey", Path(path), "--appendonly", "yes")
        server.start()
        asyncio.run(_settle(server.url))
        words = ("ledger", "tail", "-f", "-n", "1", "--json", "--redis-url", server.url)
        follower = subprocess.Popen(
            [sys.executable, "-m", "proxy.cli.main", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            cwd=tmp_path,
            preexec_fn=heeds_interrupts,  # noqa: PLW1509 - this test starts no thread
        )
        try:
            assert follower.stdout is not None
            assert follower.stderr is not None
            assert json.loads(follower.stdout.readline())["id"] == IDS[2]
            server.kill()
            assert follower.stderr.readline().endswith("; waiting\n")
            server.start()
            asyncio.run(_settle(server.url))
            assert [json.loads(follower.stdout.readline())["id"] for _ in IDS] == IDS
            follower.send_signal(signal.SIGINT)
            assert follower.wait(20) == 130
        finally:
            follower.kill()
            follower.communicate()
            server.kill()
