"""Where values come from, which source wins, and the upstream's key."""

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import pytest

from proxy.config import Address, BudgetConfig, Config, Secret, load_config
from proxy.errors import ConfigError

WHOLE_CONTRACT = """\
listen = "127.0.0.1:4200"
ops_listen = "127.0.0.1:4210"
redis_url = "redis://127.0.0.1:6379/0"
upstream = "https://api.example.com/v1/"
upstream_key_env = "ACME_KEY"
require_key = true
rate_files = ["my-rates.toml", "/etc/rates.toml"]
unpriced = "refuse"
default_output_tokens = 1000
provider = "azure"
data_dir = "data"
workers = 2
drain_seconds = 1.5
store_timeout_ms = 100
connect_timeout_seconds = 3
upstream_timeout_seconds = 60
max_body_bytes = 2048

[[budget]]
name = "acme-monthly"
limit_usd = "500"
period = "month"
timezone = "Europe/Berlin"
owner = "acme"
model = "ft:gpt-4o-mini*"
fine_tuned = true
alert_at = [1.0, 0.8]
on_exceed = "alert"
on_store_loss = "refuse"

[[budget]]
name = "each"
limit_usd = 5
period = "day"
per = "owner"

[models]
"acme-classifier" = "gpt-4o-mini-2024-07-18.ft-0123456789abcdef0123456789abcdef"

[baseline]
"ft:gpt-4o-mini-2024-07-18:acme::abc123" = "gpt-4o"
"""


def load(
    directory: Path,
    toml: str | None = None,
    flags: Mapping[str, str | None] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    if toml is not None:
        (directory / "taximeter.toml").write_text(toml, "utf-8")
    return load_config(flags or {}, {"HOME": "/home/somebody", **(environ or {})}, directory)


def test_everything_has_a_default(tmp_path: Path) -> None:
    expected = Config(data_dir=Path("/home/somebody/.local/share/taximeter"))

    assert expected == load(tmp_path)
    assert f"{expected.listen} {expected.ops_listen}" == "127.0.0.1:4100 127.0.0.1:4110"
    assert expected.upstream == "https://api.openai.com/v1"
    assert expected.provider == "openai"


def test_every_key_of_the_contract(tmp_path: Path) -> None:
    expected = Config(
        listen=Address("127.0.0.1", 4200),
        ops_listen=Address("127.0.0.1", 4210),
        redis_url="redis://127.0.0.1:6379/0",
        upstream="https://api.example.com/v1",
        upstream_key=Secret("sk-1"),
        upstream_key_env="ACME_KEY",
        provider="azure",
        require_key=True,
        rate_files=(tmp_path / "my-rates.toml", Path("/etc/rates.toml")),
        unpriced="refuse",
        default_output_tokens=1000,
        budgets=(
            BudgetConfig(
                name="acme-monthly",
                limit_nanos=500 * 10**9,
                period="month",
                timezone="Europe/Berlin",
                owner="acme",
                model="ft:gpt-4o-mini*",
                fine_tuned=True,
                alert_at=(Decimal("0.8"), Decimal(1)),
                on_exceed="alert",
                on_store_loss="refuse",
            ),
            BudgetConfig(name="each", limit_nanos=5 * 10**9, period="day", per="owner"),
        ),
        models={"acme-classifier": "gpt-4o-mini-2024-07-18.ft-0123456789abcdef0123456789abcdef"},
        baseline={"ft:gpt-4o-mini-2024-07-18:acme::abc123": "gpt-4o"},
        data_dir=tmp_path / "data",
        workers=2,
        drain_seconds=1.5,
        store_timeout_ms=100,
        connect_timeout_seconds=3,
        upstream_timeout_seconds=60,
        max_body_bytes=2048,
        source=tmp_path / "taximeter.toml",
    )

    assert expected == load(tmp_path, WHOLE_CONTRACT, environ={"ACME_KEY": "sk-1", "OPENAI_API_KEY": "sk-2"})


def test_flags_win_over_environment_and_that_over_the_file(tmp_path: Path) -> None:
    toml = 'listen = "h:1"\nops_listen = "h:2"\nworkers = 3\n'
    environ = {"TAXIMETER_OPS_LISTEN": "h:20", "TAXIMETER_WORKERS": "30", "TAXIMETER_LISTEN": ""}

    config = load(tmp_path, toml, {"workers": "200", "redis_url": None}, environ)

    assert (str(config.listen), str(config.ops_listen), config.workers) == ("h:1", "h:20", 200)


def test_every_variable_of_the_contract(tmp_path: Path) -> None:
    environ = {
        "TAXIMETER_LISTEN": ":1",
        "TAXIMETER_OPS_LISTEN": ":2",
        "TAXIMETER_UPSTREAM": "http://127.0.0.1:9",
        "TAXIMETER_REDIS_URL": "unix:///run/s",
        "TAXIMETER_DATA_DIR": "d",
        "TAXIMETER_WORKERS": "4",
        "TAXIMETER_PORT": "tcp://10.0.0.1:4100",  # what Kubernetes sets for a service of this name
        "OPENAI_API_KEY": " sk-1\n",
    }

    config = load(tmp_path, environ=environ)

    assert (str(config.listen), str(config.ops_listen)) == ("0.0.0.0:1", "0.0.0.0:2")
    assert (config.upstream, config.redis_url) == ("http://127.0.0.1:9/v1", "unix:///run/s")
    assert (tmp_path / "d", 4, Secret("sk-1")) == (config.data_dir, config.workers, config.upstream_key)


def test_the_file_may_stand_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "a.toml").write_text('\ufeffrate_files = ["r.toml"]\r\n', "utf-8")
    (tmp_path / "b.toml").write_text("workers = 2")

    by_variable = load(tmp_path, environ={"TAXIMETER_CONFIG": "etc/a.toml"})
    by_flag = load(tmp_path, flags={"config": str(tmp_path / "b.toml")}, environ={"TAXIMETER_CONFIG": "etc/a.toml"})

    assert (tmp_path / "etc" / "r.toml",) == by_variable.rate_files
    assert tmp_path / "etc" / "a.toml" == by_variable.source
    assert by_flag.workers == 2


def test_a_variable_that_wins_saves_a_wrong_value_in_the_file(tmp_path: Path) -> None:
    assert load(tmp_path, 'workers = "many"', environ={"TAXIMETER_WORKERS": "2"}).workers == 2


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"OPENAI_API_KEY": ""}, None),
        ({"OPENAI_API_KEY": "sk-1"}, Secret("sk-1")),
        ({"OPENAI_API_KEY": "tm-1"}, None),  # the shell of somebody whose own calls go through taximeter
    ],
)
def test_the_upstream_key(tmp_path: Path, environ: Mapping[str, str], expected: Secret | None) -> None:
    assert expected == load(tmp_path, environ=environ).upstream_key


def test_the_upstream_key_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-file\n")

    config = load(tmp_path, 'upstream_key_file = "key"', environ={"OPENAI_API_KEY": "sk-env"})

    assert Secret("sk-file") == config.upstream_key


def test_a_key_file_that_everybody_can_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-file\n")
    (tmp_path / "key").chmod(0o640)
    assert load(tmp_path, 'upstream_key_file = "key"').warnings == ()

    (tmp_path / "key").chmod(0o644)
    [warning] = load(tmp_path, 'upstream_key_file = "key"').warnings
    assert warning.endswith(f"upstream_key_file: everybody on this machine can read {tmp_path / 'key'}: chmod o-r it")


def test_who_does_not_forward_needs_no_upstream_key(tmp_path: Path) -> None:
    (tmp_path / "taximeter.toml").write_text('upstream_key_file = "not-there"')

    config = load_config({}, {"HOME": "/h", "OPENAI_API_KEY": "sk"}, tmp_path, with_upstream_key=False)

    assert config.upstream_key is None


@pytest.mark.parametrize(
    ("toml", "environ", "message"),
    [
        (
            'upstream_key_env = "K"',
            {"K": "tm-12"},
            "K: holds a taximeter key (tm-…); the upstream needs a key of its own",
        ),
        ('upstream_key_env = "K"', {"K": "a b"}, "K: the key holds blanks"),
        ("", {"OPENAI_API_KEY": "sk-\u00e9"}, "OPENAI_API_KEY: the key holds"),
        ('upstream_key_env = "sk-proj-1"', {}, 'upstream_key_env = "…": must be the NAME of an environment variable'),
        ('upstream_key_file = "none"', {}, 'upstream_key_file = "none": the key cannot be read: No such file'),
        ('upstream_key_file = "."', {}, "the key cannot be read: Is a directory"),
        ('upstream_key_file = "taximeter.toml"\nupstream_key_env = "K"', {}, "cannot stand beside upstream_key_env"),
        ('upstream_key_file = "taximeter.toml"', {}, "the key holds blanks"),
    ],
)
def test_upstream_keys_that_cannot_be(tmp_path: Path, toml: str, environ: Mapping[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, toml, environ=environ)

    assert message in str(caught.value)
    assert not any(value in str(caught.value) for value in environ.values())


@pytest.mark.parametrize(
    ("upstream", "provider"),
    [
        ("https://api.openai.com", "openai"),
        ("https://acme.openai.azure.com/openai/v1", "azure"),
        ("https://ACME.OpenAI.Azure.com:443/openai/v1", "azure"),
        ("https://acme.cognitiveservices.azure.com/x", "azure"),
        ("https://acme.services.ai.azure.com/x", "azure"),
        ("https://openai.azure.com.example/x", "openai"),
        ("https://api.anthropic.com/v1", "anthropic"),
        ("https://openrouter.ai/api/v1", "openrouter"),
        ("https://generativelanguage.googleapis.com/v1beta/openai", "google"),
        ("https://api.groq.com/openai/v1", "groq"),
        ("https://api.x.ai/v1", "x-ai"),
        ("https://eu.api.mistral.ai./v1", "mistral"),
        ("https://evilapi.groq.com/v1", "openai"),
        ("https://api.groq.com.example/v1", "openai"),
        ("http://127.0.0.1:8000/v1", "openai"),
    ],
)
def test_the_provider_follows_from_the_upstream(tmp_path: Path, upstream: str, provider: str) -> None:
    assert provider == load(tmp_path, flags={"upstream": upstream}).provider
    assert load(tmp_path, 'provider = "mine"', {"upstream": upstream}).provider == "mine"


@pytest.mark.parametrize(
    ("upstream", "costs_more"),
    [
        ("https://api.openai.com/v1", False),
        ("https://eu.api.openai.com/v1", True),
        ("https://US.api.openai.com", True),
        ("https://eu.api.openai.com.example/v1", False),
        ("https://www.api.openai.com/v1", False),
        ("https://api.groq.com/openai/v1", False),
    ],
)
def test_data_residency_follows_from_the_upstream(tmp_path: Path, upstream: str, costs_more: bool) -> None:
    assert load(tmp_path, flags={"upstream": upstream}).data_residency is costs_more
    assert load(tmp_path, "data_residency = true", {"upstream": upstream}).data_residency
    assert not load(tmp_path, "data_residency = false", {"upstream": upstream}).data_residency
