"""`taximeter rates`: every action in both forms, and its exit codes."""

import json
from pathlib import Path
from typing import Any

import pytest

from proxy.cli.main import main

CARD = """\
[[card]]
model = "gpt-4o"
provider = "openai"
effective_from = 2026-01-01
source = "contract 7"
checked = 2025-12-01
standard = { input = "1", cached_input = "0.5", output = "2" }
"""


@pytest.fixture(autouse=True)
def _nothing_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("CONFIG", "UPSTREAM", "LISTEN", "OPS_LISTEN", "REDIS_URL", "DATA_DIR", "WORKERS"):
        monkeypatch.delenv(f"TAXIMETER_{name}", raising=False)


def as_json(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main(["rates", *words, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def as_text(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main(["rates", *words]) == code
    out, err = capsys.readouterr()
    assert (err == "") == (code == 0)
    return out if code == 0 else err


def models(listed: Any) -> set[str]:
    return {card["model"] for card in listed["cards"]}


def test_list_on_a_day(capsys: pytest.CaptureFixture[str]) -> None:
    def sol(at: str) -> dict[str, str]:
        cards = as_json(capsys, "list", "gpt-5.6-sol", "--at", at, "--tier", "standard")["cards"]
        (card,) = cards
        rates: dict[str, str] = card["rates"]
        return rates

    assert sol("2026-08-20")["output"] == "30"
    assert sol("2026-11-21T23:59:59Z")["output"] == "20"
    assert sol("2026-11-22")["output"] == "30"
    assert as_json(capsys, "list", "--at", "2023-12-31")["cards"] == []
    assert "No card holds at 2023-12-31" in as_text(capsys, "list", "--at", "2023-12-31")


def test_list_filters(capsys: pytest.CaptureFixture[str]) -> None:
    tuned = as_json(capsys, "list", "--fine-tuned", "--provider", "openai", "--at", "2026-11-21")
    assert {"gpt-4o-mini", "o4-mini", "babbage-002"} <= models(tuned)
    assert all(card["fine_tuned"] and card["provider"] == "openai" for card in tuned["cards"])
    assert tuned["at"] == "2026-11-21T00:00:00Z"
    assert as_json(capsys, "list", "ft:gpt-4o*", "--at", "2026-11-21") == as_json(
        capsys, "list", "gpt-4o*", "--fine-tuned", "--at", "2026-11-21"
    )
    assert models(as_json(capsys, "list", "gpt-4o-2024-11-20", "--base", "--provider", "openai")) == {"gpt-4o"}
    claude = as_json(capsys, "list", "claude-*", "--provider", "anthropic", "--at", "2026-11-21")
    assert {card["origin"] for card in claude["cards"]} == {"imported"}
    assert len(as_json(capsys, "list", "--imported")["cards"]) > 1_000
    assert not models(as_json(capsys, "list", "claude-*"))
    table = as_text(capsys, "list", "gpt-4o-mini", "--fine-tuned", "--at", "2026-11-21")
    assert "gpt-4o-mini  openai    fine-tuned  standard    0.3    0.15     1.2  2024-01-01*  shipped" in table


def test_show(capsys: pytest.CaptureFixture[str]) -> None:
    shown = as_json(capsys, "show", "ft:gpt-4o-mini-2024-07-18:acme::abc123")
    standard = shown["cards"][0]
    assert (shown["fine_tuned"], shown["base_model"], standard["provenance"]) == (True, "gpt-4o-mini", "exact")
    assert standard["rates"]["cached_input"] == "0.15"
    assert (standard["training_usd_per_million"], standard["hosting_usd_per_hour"]) == ("3", "0")
    assert standard["shutdown"] == "2027-01-14"
    text = as_text(capsys, "show", "gpt-5.6-sol")
    assert "2026-08-21   2026-11-22      4" in text
    assert "At a data-residency endpoint tokens cost 1.1 times as much." in text
    assert "Training: $100 an hour." in as_text(capsys, "show", "ft:o4-mini:acme::x")
    assert "Hosting: $1.7 an hour (2.04 in some regions)." in as_text(
        capsys, "show", "gpt-4o-2024-08-06.ft-0123456789abcdef0123456789abcdef"
    )
    assert "no card prices nobody at openai" in as_text(capsys, "show", "nobody", code=1)


def test_a_configured_file_is_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.toml").write_text(CARD)
    (tmp_path / "taximeter.toml").write_text('rate_files = ["mine.toml"]\n')
    origins = [card["origin"] for card in as_json(capsys, "list", "gpt-4o", "--base", "--tier", "standard")["cards"]]
    assert sorted(origins) == ["override", "shipped", "shipped"]  # Azure's, too
    assert as_json(capsys, "show", "gpt-4o")["cards"][0]["provenance"] == "override"
    first = as_json(capsys, "sources")["sources"][0]
    assert first == {"checked": "2025-12-01", "provider": "openai", "source": "contract 7", "cards": 1}


def test_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(CARD + CARD.replace('"gpt-4o"', '"acme-1"').replace('"openai"', '"acme"'))
    checked = as_json(capsys, "check", str(file))
    first, second = checked["cards"]
    assert (checked["ok"], first["effect"], second["effect"]) == (True, "overrides", "adds")
    assert first["overrides"] == ["openai/gpt-4o/standard/2024-01-01"]
    assert "web_search_calls" in first["left_out"]
    assert "cached_input" not in first["left_out"]
    text = as_text(capsys, "check", str(file))
    assert "can be used" in text
    assert "would be unpriced" in text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (CARD.replace('input = "1"', "input = 1.5"), ":7: input = 1.5 is a number; write the amount in quotes"),
        (CARD + CARD, ":8: gpt-4o: this card begins 2026-01-01 and overlaps"),
        ("x", ":1: is not TOML"),
    ],
)
def test_check_of_a_wrong_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, reason: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    err = as_text(capsys, "check", str(file), code=1)
    assert err.startswith(f"taximeter: {file}{reason}")
    assert err.count("\n") == 1
    assert main(["rates", "check", str(file), "--json"]) == 1
    out, _ = capsys.readouterr()
    assert json.loads(out)["ok"] is False
    assert main(["rates", "check", str(tmp_path / "none.toml")]) == 1


def test_diff(capsys: pytest.CaptureFixture[str]) -> None:
    changes = as_json(capsys, "diff", "gpt-5.6-*", "--from", "2026-07-29", "--to", "2026-07-30")["changes"]
    changed = {(each["model"], each["tier"], each["kind"]): (each["before"], each["after"]) for each in changes}
    assert changed["gpt-5.6-luna", "standard", "input"] == ("1", "0.2")
    assert changed["gpt-5.6-terra", "standard", "output"] == ("15", "12")
    assert changed["gpt-5.6-luna", "batch", "input"] == (None, "0.1")
    assert not any(model == "gpt-5.6-sol" for model, _, _ in changed)
    text = as_text(capsys, "diff", "--from", "2026-11-21", "--to", "2026-11-22")
    assert "gpt-5.6-sol  openai    base  standard  output               20     30" in text
    assert "No price changed" in as_text(capsys, "diff", "--from", "2026-09-01", "--to", "2026-09-02")


def test_sources_have_the_oldest_check_first(capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys, "sources", "--imported")["sources"]
    assert [each["checked"] for each in found] == sorted(each["checked"] for each in found)
    assert len({each["provider"] for each in found}) > 40
    assert "https://developers.openai.com/api/docs/pricing" in as_text(capsys, "sources")


def test_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(Path(as_text(capsys, "schema").strip()).read_text())["title"] == "taximeter rate cards"


@pytest.mark.parametrize(
    "words",
    [
        ["list", "--at", "yesterday"],
        ["list", "--provider", "nobody"],
        ["list", "--tier", "express"],
        ["list", "--fine-tuned", "--base"],
        ["diff", "--from", "2026-11-22", "--to", "2026-11-21"],
        ["diff"],
        ["show"],
        [],
        ["frobnicate"],
    ],
)
def test_wrong_words(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rates", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1
