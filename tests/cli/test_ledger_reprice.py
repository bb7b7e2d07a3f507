"""`taximeter ledger reprice` end to end: what it says, what it writes, and that a second run finds nothing."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from proxy.admission import mint_entry_id
from proxy.budgets import Account, Budget, PeriodKind, period_at
from proxy.ledger.entry import LedgerEntry, Moved
from proxy.store import Store, embedded_store
from tests.cli.running import Cli
from tests.store.cases import entry

NOW = datetime.now(UTC).replace(microsecond=0)
BEGUN = NOW - timedelta(minutes=5)
SINCE = (NOW - timedelta(days=1)).date().isoformat()
MODEL, DEPLOYMENT = "gpt-4o-mini-2024-07-18", "acme-classifier"
BUDGET = Budget(name="acme-total", limit=10**9, period=PeriodKind.TOTAL)
ACCOUNT = Account(BUDGET, period_at(PeriodKind.TOTAL, "UTC", NOW))
CARDS = """\
[[card]]
provider = "openai"
model = "gpt-4o-mini"
effective_from = 2020-01-01
source = "https://example.invalid/contract"
checked = 2026-11-20

[card.standard]
input = "0.30"
cached_input = "0.15"
output = "1.20"
"""


def priced(model: str, nanos: int | None, **changes: Any) -> LedgerEntry:
    """A thousand tokens in, five hundred out."""
    return entry(
        mint_entry_id(BEGUN),
        nanos,
        at=BEGUN.isoformat().replace("+00:00", "Z"),
        usage={"input": 1000, "output": 500},
        asked_model=model,
        served_model=model,
        moved=(Moved(BUDGET.name, ACCOUNT.key, nanos or 0),),
        **changes,
    )


async def _settle(url: str) -> None:
    async with await Store.open(url, writer="test", timeout=5) as store:
        for _ in range(3):
            store.settle(priced(MODEL, 450_000), [ACCOUNT])
        store.settle(priced(DEPLOYMENT, None, counted_as="estimated"), [ACCOUNT])
        store.settle(priced("nobody-knows", None), [ACCOUNT])
        store.settle(priced(MODEL, 999_999, status="presumed", reason="host_lost"), [ACCOUNT])
        store.settle(priced(MODEL, 0, status="failed"), [])


@pytest.fixture
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with embedded_store(tmp_path_factory.mktemp("data")) as url:
        asyncio.run(_settle(url))
        yield url


def spent(cli: Cli, url: str) -> str:
    _, out, _ = cli("budgets", "--json", "--redis-url", url, "--config", "taximeter.toml")
    [found] = json.loads(out)["budgets"]
    return str(found["spent_usd"])


@pytest.fixture(autouse=True)
def _configuration(tmp_path: Path) -> None:
    (tmp_path / "my-rates.toml").write_text(CARDS)
    (tmp_path / "taximeter.toml").write_text(f"""\
[[budget]]
name = "acme-total"
limit_usd = 1
period = "total"

[models]
"{DEPLOYMENT}" = "{MODEL}"
""")


def test_it_says_what_would_change_and_changes_nothing(cli: Cli, url: str) -> None:
    code, out, err = cli("ledger", "reprice", "--since", SINCE, "--with", "my-rates.toml", "--redis-url", url)

    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    assert rows[1] == [MODEL, "6", "4", "$0.002349999", "$0.004599999", "$0.00225", "1", "0"]
    assert rows[2][:3] == ["nobody-knows", "1", "0"]
    assert "Nothing was written: --apply writes the corrections." in out
    assert spent(cli, url) == "0.002349999"


def test_without_a_file_it_takes_the_cards_and_names_of_today(cli: Cli, url: str) -> None:
    _, out, _ = cli("ledger", "reprice", "--since", SINCE, "--json", "--redis-url", url)

    found = json.loads(out)
    assert {name: found["total"][name] for name in ("entries", "changed", "unpriced", "unpriced_left")} == {
        "entries": 7,
        "changed": 1,
        "unpriced": 2,
        "unpriced_left": 1,
    }
    assert found["total"]["difference_nanos"] == 450_000
    assert found["applied"] is None


def test_applying_moves_budgets_sums_and_ledger_once(cli: Cli, url: str) -> None:
    words = ("ledger", "reprice", "--since", SINCE, "--with", "my-rates.toml", "--json", "--redis-url", url)
    _, out, _ = cli(*words, "--apply")
    _, again, _ = cli(*words, "--apply")
    _, lines, _ = cli("ledger", "export", "--redis-url", url)
    _, report, _ = cli("report", "--json", "--redis-url", url, "--since", SINCE)
    verified, _, _ = cli("ledger", "verify", "--redis-url", url)

    assert (json.loads(out)["applied"], json.loads(out)["left"]) == (4, 0)
    assert (json.loads(again)["applied"], json.loads(again)["total"]["changed"]) == (0, 0)
    assert (verified, spent(cli, url)) == (0, "0.004599999")
    total = json.loads(report)["total"]
    found = [json.loads(line) for line in lines.splitlines()]
    assert total["cost_nanos"] == sum(line["cost_nanos"] or 0 for line in found) == 4_599_999
    assert total["requests"] == sum(line["requests"] for line in found) == 7
    assert (total["unpriced_requests"], total["estimated_requests"], total["presumed_requests"]) == (1, 1, 1)
    [mended] = [line for line in found if line["asked_model"] == DEPLOYMENT and line["line"] == "correction"][1:]
    assert {name: mended[name] for name in ("status", "reason", "served_model", "provenance", "cost_nanos")} == {
        "status": "estimated",
        "reason": "repriced",
        "served_model": MODEL,
        "provenance": "override",
        "cost_nanos": 900_000,
    }


def test_presumed_entries_keep_their_cost_unless_asked(cli: Cli, url: str) -> None:
    _, out, _ = cli("ledger", "reprice", "--since", SINCE, "--presumed", "--json", "--redis-url", url)

    assert json.loads(out)["total"]["changed"] == 2


def test_it_is_audited(cli: Cli, url: str) -> None:
    cli("ledger", "reprice", "--since", SINCE, "--with", "my-rates.toml", "--apply", "--redis-url", url)

    _, out, _ = cli("ledger", "audit", "--json", "--redis-url", url)
    code, shown, _ = cli("ledger", "audit", "--redis-url", url)

    begun, ended = json.loads(out)["audit"]
    assert (begun["action"], ended["action"], ended["corrections"]) == ("reprice", "reprice done", 4)
    assert begun["cards"].startswith("my-rates.toml (")
    assert (code, "difference_usd: 0.00225" in shown) == (0, True)


def test_a_card_file_that_is_wrong_changes_nothing(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "my-rates.toml").write_text("[[card]]\nmodel = 5\n")

    code, out, err = cli("ledger", "reprice", "--since", SINCE, "--with", "my-rates.toml", "--apply")

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "my-rates.toml" in err


def test_since_is_needed(cli: Cli) -> None:
    code, _, err = cli("ledger", "reprice")

    assert code == 2
    assert "--since" in err


def test_show_says_what_was_taken_back_and_what_is_in_force(cli: Cli, url: str) -> None:
    cli("ledger", "reprice", "--since", SINCE, "--with", "my-rates.toml", "--apply", "--redis-url", url)
    _, lines, _ = cli("ledger", "export", "--redis-url", url)
    wanted = json.loads(lines.splitlines()[0])["id"]

    _, out, _ = cli("ledger", "show", wanted, "--redis-url", url)
    _, data, _ = cli("ledger", "show", wanted, "--redis-url", url, "--json")

    assert [line.split()[3:5] for line in out.splitlines()[1:4]] == [
        ["entry", "reported"],
        ["taken", "back"],
        ["corrected", "reported"],
    ]
    assert json.loads(data)["current"]["cost_nanos"] == 900_000
    assert [line["requests"] for line in json.loads(data)["lines"]] == [1, -1, 1]
