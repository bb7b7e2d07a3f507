import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cli.api_usage import usage_from_json
from proxy.cli.main import main
from proxy.errors import UsageError
from rates.usage import KINDS

FT = "ft:gpt-4o-mini-2024-07-18:acme::abc123"
AT = ("--at", "2026-11-21")


@pytest.fixture(autouse=True)
def _nothing_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("CONFIG", "UPSTREAM", "LISTEN", "OPS_LISTEN", "REDIS_URL", "DATA_DIR", "WORKERS"):
        monkeypatch.delenv(f"TAXIMETER_{name}", raising=False)


def as_json(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["price", *words, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    parsed: dict[str, Any] = json.loads(out)
    return parsed


def test_json_as_the_contract_says(capsys: pytest.CaptureFixture[str]) -> None:
    priced = as_json(capsys, FT, "--prompt-tokens", "1000", "--completion-tokens", "500", *AT)
    expected = {
        "model": FT,
        "base_model": "gpt-4o-mini",
        "fine_tuned": True,
        "tier": "standard",
        "provenance": "exact",
        "rate_card": "openai/ft:gpt-4o-mini/standard/2024-01-01",
        "cost_usd": "0.0009",
        "cost_nanos": 900_000,
        "lines": [
            {"kind": "input", "quantity": 1000, "usd_per_million": "0.3", "cost_usd": "0.0003"},
            {"kind": "output", "quantity": 500, "usd_per_million": "1.2", "cost_usd": "0.0006"},
        ],
    }
    assert {key: priced[key] for key in expected} == expected
    assert (
        as_json(capsys, "gpt-4o-mini", "--prompt-tokens", "1000", "--completion-tokens", "500", *AT)["cost_usd"]
        == "0.00045"
    )


def test_cached_tokens_are_inside_the_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    priced = as_json(capsys, FT, "--prompt-tokens", "1000", "--cached-tokens", "800", "--completion-tokens", "500", *AT)
    assert [(line["kind"], line["quantity"]) for line in priced["lines"]] == [
        ("input", 200),
        ("cached_input", 800),
        ("output", 500),
    ]
    assert priced["cost_nanos"] == 780_000


@pytest.mark.parametrize(
    ("usage", "lines"),
    [
        (
            {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 3}},
            {"input": 6, "cached_input": 4, "output": 5},
        ),
        (
            {"input_tokens": 100, "output_tokens": 5.0, "input_tokens_details": {"cached_tokens": 10, "cache_write_tokens": 30, "cache_write_tokens_details": {"ttl_30m_tokens": 20, "ttl_12h_tokens": 10}}},
            {"input": 60, "cached_input": 10, "cache_write": 20, "cache_write_12h": 10, "output": 5},
        ),
        (
            {"input_tokens": 100, "output_tokens": 50, "input_token_details": {"text_tokens": 40, "audio_tokens": 60, "cached_tokens": 30, "cached_tokens_details": {"text_tokens": 10, "audio_tokens": 20}}, "output_token_details": {"audio_tokens": 45}},
            {"input": 30, "cached_input": 10, "audio_input": 40, "cached_audio_input": 20, "output": 5, "audio_output": 45},
        ),
        ({"prompt_tokens": 7, "completion_tokens": None, "prompt_tokens_details": None}, {"input": 7}),
        ({"prompt_tokens": 0, "completion_tokens": 0}, {}),
    ],
)  # fmt: skip
def test_usage_as_the_api_writes_it(usage: dict[str, Any], lines: dict[str, int]) -> None:
    assert usage_from_json(json.dumps(usage)).as_dict() == lines


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--prompt-tokens", "-5"], "--prompt-tokens -5: is below zero"),
        (["--prompt-tokens", "--5"], "--prompt-tokens"),
        (["--prompt-tokens=--5"], "whole number"),
        (["--prompt-tokens", "1.5"], "must be a whole number"),
        (["--prompt-tokens", "9" * 5000], "which no request uses"),
        (["--cached-tokens", "7"], "cached tokens are counted inside the prompt"),
        (["--prompt-tokens", "5", "--cached-tokens", "7"], "is more than --prompt-tokens 5"),
        (["--usage", "{"], "--usage: is not JSON"),
        (["--usage", "[" * 100_000], "--usage: is not JSON"),
        (["--usage", "[]"], "must be an object"),
        (["--usage", '{"usage": {}}'], "the usage object alone"),
        (["--usage", '{"prompt_tokens": "7"}'], "prompt_tokens must be a whole number"),
        (["--usage", '{"prompt_tokens": true}'], "prompt_tokens must be a whole number"),
        (["--usage", '{"prompt_tokens": NaN}'], "prompt_tokens must be a whole number"),
        (["--usage", '{"prompt_tokens": -1}'], "below zero"),
        (["--usage", '{"prompt_tokens": 1, "prompt_tokens_details": []}'], "must be an object"),
        (["--usage", '{"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}}'], "more than the prompt"),
        (["--usage", '{"prompt_tokens": 1, "input_tokens": 2}'], "two names of one count"),
        (["--usage", '{"prompt_tokens": 1}', "--prompt-tokens", "1"], "give either"),
        (["--tier", "cheap"], '--tier "cheap": is none of standard'),
        (["--at", "yesterday"], '--at "yesterday"'),
        (["--at", "2026-11-21T12:00:00"], "write a date"),
        (["--at", "0001-01-01T00:00:00+23:00"], "write a date"),
        (["--rates", "nowhere.toml"], "nowhere.toml: cannot be read"),
        (["--config", "nowhere.toml"], "nowhere.toml"),
        (["--nonsense"], "--nonsense"),
        (["another"], "another"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], words: list[str], reason: str
) -> None:
    assert main(["price", "gpt-4o-mini", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert reason in err
    assert err.count("\n") == 1


def test_a_provider_that_contradicts_the_id(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["price", "azure/gpt-4o-mini", "--provider", "openai"]) == 2
    assert "says azure" in capsys.readouterr().err


def test_a_prefix_and_a_flag_choose_the_provider(capsys: pytest.CaptureFixture[str]) -> None:
    assert as_json(capsys, "azure/gpt-4o-mini", *AT)["provider"] == "azure"
    assert as_json(capsys, "gpt-4o-mini", "--provider", "azure", *AT)["provider"] == "azure"
    assert as_json(capsys, "gpt-4o-mini-2024-07-18.ft-0123456789abcdef0123456789abcdef", *AT)["provider"] == "azure"
    assert as_json(capsys, "gpt-4o-mini", *AT)["provider"] == "openai"


def test_a_model_without_a_price(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["price", "ft:gpt-5-mini-2025-08-07:acme::abc", "--prompt-tokens", "7", "--tier", "fast", "--json"]) == 1
    )
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "model": "ft:gpt-5-mini-2025-08-07:acme::abc",
        "base_model": "gpt-5-mini",
        "fine_tuned": True,
        "tier": "priority",
        "provenance": None,
        "rate_card": None,
        "cost_usd": None,
        "cost_nanos": None,
        "lines": [],
    }
    assert "no card prices ft:gpt-5-mini-2025-08-07:acme::abc" in err
    assert err.count("\n") == 1
    assert main(["price", "nobody"]) == 1
    assert capsys.readouterr().out == ""


def test_tier_and_date(capsys: pytest.CaptureFixture[str]) -> None:
    one = ("--prompt-tokens", "1000")
    assert as_json(capsys, "gpt-5.6-sol", *one, "--at", "2026-11-21T23:59:59Z")["cost_usd"] == "0.004"
    assert as_json(capsys, "gpt-5.6-sol", *one, "--at", "2026-11-22")["cost_usd"] == "0.005"
    assert as_json(capsys, "gpt-5.6-sol", *one, "--at", "2026-11-22T01:00:00+02:00")["cost_usd"] == "0.004"
    priority = as_json(capsys, "gpt-5.6-sol", *one, *AT, "--tier", "fast")
    assert (priority["tier"], priority["cost_usd"]) == ("priority", "0.008")


def test_assumed_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert as_json(capsys, "gpt-4o-mini", "--prompt-tokens", "7", "--at", "2025-01-01")["assumed"] is True
    assert as_json(capsys, "gpt-4o-mini", "--prompt-tokens", "7", *AT)["assumed"] is False
    assert as_json(capsys, "gpt-4o-2024-05-13", "--prompt-tokens", "7", "--cached-tokens", "7", *AT)["assumed"] is True


def test_the_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["price", "gpt-5.4", "--prompt-tokens", "300000", "--completion-tokens", "1000", *AT]) == 0
    out = capsys.readouterr().out
    for words in (
        "300,000",
        "$5",
        "$1.5225",
        "long-context",
        "openai/gpt-5.4/standard/2024-01-01 (family)",
        "2026-11-21",
    ):
        assert words in out
    assert main(["price", FT, *AT]) == 0
    out = capsys.readouterr().out
    for words in ("USD per 1M tokens", "cached_input", "$0.15", "Shutdown at openai: 2027-01-14"):
        assert words in out
    assert main(["price", "gpt-4o.ft-0123456789abcdef0123456789abcdef", "--usage", '{"prompt_tokens": 0}', *AT]) == 0
    out = capsys.readouterr().out
    assert "$1.7 an hour besides (2.04 in some regions)" in out
    assert "$0" in out


def test_configuration_brings_card_files_aliases_and_the_provider(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "my.toml").write_text(
        '[[card]]\nprovider = "azure"\nmodel = "gpt-4o-mini"\nfine_tuned = true\neffective_from = 2026-01-01\n'
        'source = "contract"\nchecked = 2026-11-01\nstandard = { input = "1", output = "2" }\n'
    )
    (tmp_path / "taximeter.toml").write_text(
        'upstream = "https://acme.openai.azure.com/openai/v1"\nrate_files = ["my.toml"]\n'
        '[models]\n"acme-classifier" = "gpt-4o-mini-2024-07-18.ft-0123456789abcdef0123456789abcdef"\n'
    )
    priced = as_json(capsys, "acme-classifier", "--prompt-tokens", "1000", *AT)
    assert (priced["model"], priced["provenance"], priced["cost_usd"]) == ("acme-classifier", "override", "0.001")
    assert priced["priced_as"] == "gpt-4o-mini-2024-07-18.ft-0123456789abcdef0123456789abcdef"
    assert as_json(capsys, "gpt-4o", *AT)["provider"] == "azure"
    (tmp_path / "my.toml").write_text("[[card]]\nmodel = 1\n")
    assert main(["price", "gpt-4o"]) == 2
    assert "my.toml:2: model must be a text" in capsys.readouterr().err


counts = st.integers(0, 10**9)


@given(counts, counts, counts, counts, counts, counts)
def test_usage_adds_up_to_what_was_given_or_is_refused(
    prompt: int, cached: int, written: int, audio: int, cached_audio: int, completion: int
) -> None:
    details = {
        "cached_tokens": cached,
        "cache_write_tokens": written,
        "audio_tokens": audio,
        "cached_tokens_details": {"audio_tokens": cached_audio},
    }
    body = {"prompt_tokens": prompt, "completion_tokens": completion, "prompt_tokens_details": details}
    try:
        usage = usage_from_json(json.dumps(body))
    except UsageError:
        return
    quantities = usage.as_dict()
    assert sum(quantities.values()) == prompt + completion
    assert set(quantities) <= set(KINDS)
    assert min(quantities.values(), default=0) >= 0


def test_tools_and_data_residency(capsys: pytest.CaptureFixture[str]) -> None:
    priced = as_json(capsys, "gpt-5.4", "--prompt-tokens", "1000", "--calls", "web_search=2", "--data-residency", *AT)
    assert priced["cost_usd"] == "0.02275"
    assert priced["data_residency"] is True
    assert priced["lines"][1] == {
        "kind": "web_search_calls",
        "quantity": 2,
        "usd_per_unit": "0.01",
        "cost_usd": "0.02",
    }
    assert as_json(capsys, "gpt-4.1", "--calls", "code_interpreter_4gb=1", *AT)["cost_usd"] == "0.12"
    Path("taximeter.toml").write_text('upstream = "https://eu.api.openai.com/v1"\n')
    assert as_json(capsys, "gpt-5.4", "--prompt-tokens", "1000", *AT)["cost_usd"] == "0.00275"


def test_tools_that_do_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("web_serach=2", "web_search", "web_search=-1", "web_search=x"):
        assert main(["price", "gpt-5.4", "--calls", wrong]) == 2
        assert "--calls" in capsys.readouterr().err


def test_other_vendors(capsys: pytest.CaptureFixture[str]) -> None:
    by_prefix = as_json(capsys, "groq/llama-3.3-70b-versatile", "--prompt-tokens", "1000", *AT)
    assert (by_prefix["provider"], by_prefix["provenance"], by_prefix["cost_usd"]) == ("groq", "imported", "0.00059")
    by_flag = as_json(capsys, "openai/gpt-oss-120b", "--provider", "groq", "--prompt-tokens", "1000", *AT)
    assert by_flag["rate_card"] == "groq/openai/gpt-oss-120b/standard/2026-10-14"
    Path("taximeter.toml").write_text('upstream = "https://openrouter.ai/api/v1"\n')
    upstream = as_json(capsys, "openai/gpt-4o", "--prompt-tokens", "1000", *AT)
    assert (upstream["provider"], upstream["provenance"]) == ("openrouter", "imported")
    assert main(["price", "ft:gpt-4o:acme::x", *AT]) == 1
    assert "no card prices ft:gpt-4o:acme::x at openrouter" in capsys.readouterr().err
