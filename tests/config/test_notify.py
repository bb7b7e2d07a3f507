"""`[[notify]]`: who is told of thresholds. A webhook's URL is a secret, right or wrong."""

from pathlib import Path

import pytest

from proxy.config import NotifyConfig, Secret, load_config
from proxy.errors import ConfigError

URL = "https://hooks.example.com/T000/B000/xoxb-secret"


def load(directory: Path, toml: str, *, with_upstream_key: bool = True, **environ: str) -> tuple[NotifyConfig, ...]:
    (directory / "taximeter.toml").write_text(toml)
    return load_config({}, {"HOME": "/h", **environ}, directory, with_upstream_key=with_upstream_key).notify


def test_defaults_and_all_keys(tmp_path: Path) -> None:
    toml = f"""\
[[notify]]
url = "{URL}"

[[notify]]
url = "http://127.0.0.1:9/x"
format = "slack"
secret_env = "HOOK_SECRET"
budgets = ["acme-*", "b"]
"""
    plain, full = load(tmp_path, toml, HOOK_SECRET="0123456789abcdef")

    assert plain == NotifyConfig(url=Secret(URL), format="generic", budgets=("*",))
    assert full == NotifyConfig(
        url=Secret("http://127.0.0.1:9/x"),
        format="slack",
        budgets=("acme-*", "b"),
        secret_env="HOOK_SECRET",
        secret=Secret("0123456789abcdef"),
    )
    assert "xoxb" not in repr((plain, full))


def test_who_does_not_serve_needs_no_secret(tmp_path: Path) -> None:
    [found] = load(tmp_path, f'[[notify]]\nurl = "{URL}"\nsecret_env = "HOOK_SECRET"', with_upstream_key=False)
    assert (found.secret_env, found.secret) == ("HOOK_SECRET", None)


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[notify]\nurl = 1", "notify is one table; it needs double brackets: write [[notify]]"),
        ("notify = 1", "must be tables: write [[notify]]"),
        ("[[notify]]", "notify number 1: url is missing"),
        ("[[notify]]\nurl = 1", 'notify number 1: url = "…": must be a URL'),
        ('[[notify]]\nurl = "hooks.example.com/xoxb"', 'url = "…": must be a URL'),
        ('[[notify]]\nurl = "ftp://h/xoxb"', 'url = "…": must be a URL'),
        ('[[notify]]\nurl = "https://u:xoxb@h/"', 'url = "…": must be a URL'),
        ('[[notify]]\nurl = "https://h:xoxb/"', 'url = "…": must be a URL'),
        ('[[notify]]\nurl = "https://h/#xoxb"', 'url = "…": must be a URL'),
        ('[[notify]]\nurl = "https://[xoxb/"', 'url = "…": must be a URL'),
        ('[[notify]]\nurl = "https://h/ü-xoxb"', 'url = "…": must be a URL'),
        (f'[[notify]]\nurl = "{URL}"\n[[notify]]\nurl = "{URL}"', "number 2: url is that of an earlier one"),
        (f'[[notify]]\nurl = "{URL}"\nformat = "slak"', 'must be "generic" or "slack"; did you mean "slack"?'),
        (f'[[notify]]\nurl = "{URL}"\nbudgets = []', "budgets = []: is empty; leave the key out"),
        (f'[[notify]]\nurl = "{URL}"\nbudgets = "b"', "must be an array"),
        (f'[[notify]]\nurl = "{URL}"\nsecret_env = "xoxb-1"', 'secret_env = "…": must be the NAME of an'),
        (f'[[notify]]\nurl = "{URL}"\nsecret_env = "NOT_SET"', "secret_env: NOT_SET is not set; set it, or leave"),
        (f'[[notify]]\nurl = "{URL}"\nsecret_env = "SHORT"', "SHORT must hold at least 16 characters"),
        (f'[[notify]]\nurl = "{URL}"\nulr = "{URL}"', 'notify number 1: unknown key "ulr"; did you mean "url"?'),
        (f'[[notify]]\nurl = "{URL}"\nworkers = 2', 'unknown key "workers"; it belongs above the first [[notify]]'),
        ('secret_env = "X"', 'unknown key "secret_env"; it belongs below a [[notify]]'),
    ],
)
def test_what_cannot_be(tmp_path: Path, toml: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, toml, SHORT="xoxb-short")
    said = str(refused.value)
    assert message in said
    assert "\n" not in said
    assert "xoxb" not in said
