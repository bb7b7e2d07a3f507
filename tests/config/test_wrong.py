"""Wrong configuration: one line each, naming the file, the key, the value, the reason and the mend."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from proxy.config import load_config
from proxy.errors import ConfigError

BUDGET = '[[budget]]\nname = "b"\nlimit_usd = "1"\nperiod = "day"\n'


def complaint(
    directory: Path,
    toml: str | bytes = "",
    flags: Mapping[str, str | None] | None = None,
    environ: Mapping[str, str] | None = None,
) -> str:
    data = toml if isinstance(toml, bytes) else toml.encode()
    (directory / "taximeter.toml").write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        load_config(flags or {}, {"HOME": "/h", **(environ or {})}, directory)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ('listn = "h:1"', 'taximeter.toml: unknown key "listn"; did you mean "listen"?'),
        ("REDIS_URL = 1", 'taximeter.toml: unknown key "REDIS_URL"; did you mean "redis_url"?'),
        ("zzz = 1", 'taximeter.toml: unknown key "zzz"'),
        ('"a\\nb" = 1', 'taximeter.toml: unknown key "a\\nb"'),
        ("[[budgets]]\nx = 1", 'taximeter.toml: unknown key "budgets"; did you mean "budget"?'),
        ('limit_usd = "1"', 'taximeter.toml: unknown key "limit_usd"; it belongs below a [[budget]]'),
        (
            '[[budget]]\nname = "acme-monthly"\nlimitusd = "1"',
            'taximeter.toml: budget "acme-monthly": unknown key "limitusd"; did you mean "limit_usd"?',
        ),
        (
            BUDGET + 'listen = "h:1"',
            'taximeter.toml: budget "b": unknown key "listen"; it belongs above the first [[budget]]',
        ),
        ("[[budget]]\nx = 1", 'taximeter.toml: budget number 1: unknown key "x"'),
        (BUDGET + "[[budget]]\n", 'budget number 2: name is missing; write, for example, name = "acme-monthly"'),
        ('[[budget]]\nname="b"', 'budget "b": limit_usd is missing; write, for example, limit_usd = "500"'),
        ("[budget]\nx = 1", "taximeter.toml: budget is one table; a budget needs double brackets: write [[budget]]"),
        ('budget = "b"', "must be tables: write [[budget]]"),
        ("budget = [1]", "must be tables: write [[budget]]"),
        (BUDGET + BUDGET, 'taximeter.toml: budget "b": the name is taken by an earlier budget; choose another'),
    ],
)
def test_keys(tmp_path: Path, toml: str, message: str) -> None:
    assert message in complaint(tmp_path, toml)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('listen = "4100"', 'taximeter.toml: listen = "4100": a port is missing: write "HOST:PORT"'),
        ("listen = 4100", "taximeter.toml: listen = 4100: must be text in quotes"),
        ('listen = "h:99999"', "the port must be a number from 0 to 65535"),
        ('listen = ""', "is empty; leave the key out to have the default"),
        ('listen = "h:4110"\nops_listen = "h:4110"', "need different ports"),
        ('listen = "0.0.0.0:4110"', "need different ports"),
        ('workers = "2"', 'workers = "2": must be a whole number without quotes'),
        ("workers = true", "workers = true: must be a whole number"),
        ("workers = 0", "must be from 1 to 256"),
        ("workers = 1.0", "must be a whole number"),
        ("workers = 0x" + "f" * 5000, "workers = (a huge number): must be from 1 to 256"),
        ("drain_seconds = nan", "must be from 0 to 86400"),
        ("drain_seconds = inf", "must be from 0 to 86400"),
        ("drain_seconds = 1e99999999999999999999", "must be from 0 to 86400"),
        ("drain_seconds = -1", "must be from 0 to 86400"),
        ("drain_seconds = true", "must be a number without quotes"),
        ("require_key = 1", "must be true or false, without quotes"),
        ('require_key = "true"', "must be true or false, without quotes"),
        ('unpriced = "deny"', 'unpriced = "deny": must be "allow" or "refuse"'),
        ('unpriced = "refused"', 'must be "allow" or "refuse"; did you mean "refuse"?'),
        ('rate_files = "r.toml"', 'must be an array: write ["…"]'),
        ('rate_files = ["a", 1]', "taximeter.toml: rate_files[1] = 1: must be text in quotes"),
        ('rate_files = ["a\\u0000"]', "holds a control character"),
        ("data_dir = 2026-11-22", "data_dir = 2026-11-22: must be text in quotes"),
        ('models = "x"', "must be a table"),
        ("[models]\na = 1", 'taximeter.toml: models."a" = 1: must be text in quotes'),
        ('[baseline]\n"" = "x"', "the name is empty"),
        ('provider = "Open AI"', "must be the name of a provider of rate cards"),
        ("max_body_bytes = 10", "must be from 1024"),
        ('listen = "' + "x" * 5000 + '"', "a port is missing"),
    ],
)
def test_values(tmp_path: Path, line: str, message: str) -> None:
    assert message in complaint(tmp_path, line)


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("listen = ", "taximeter.toml: line 1, column 9: Invalid value"),
        ("a = 1\n\nb = [1,\n", "taximeter.toml: line 3, column 8: Invalid value"),
        ("a = 1\na = 2", "taximeter.toml: line 2, column 6: Cannot overwrite a value"),
        ("a = " + "[" * 100_000, "is nested too deeply to be a configuration"),
        ("a = " + "9" * 5000, "is not TOML: "),
        (b"\x00\x01\x02", "taximeter.toml: line 1, column 1: "),
        (b"a = 1\nb = '\xff'", "taximeter.toml: line 2: is not UTF-8 text; save the file as UTF-8"),
    ],
)
def test_files_that_are_no_toml(tmp_path: Path, toml: str | bytes, message: str) -> None:
    assert message in complaint(tmp_path, toml)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    named = complaint(tmp_path, flags={"config": "not-there.toml"})
    by_variable = complaint(tmp_path, environ={"TAXIMETER_CONFIG": "nor/there.toml"})
    directory = complaint(tmp_path, flags={"config": "."})
    empty = complaint(tmp_path, flags={"config": ""})
    (tmp_path / "taximeter.toml").unlink()
    (tmp_path / "taximeter.toml").symlink_to("nowhere")
    with pytest.raises(ConfigError, match="there is no such file"):
        load_config({}, {"HOME": "/h"}, tmp_path)

    assert named == '--config = "not-there.toml": there is no such file'
    assert by_variable == 'TAXIMETER_CONFIG = "nor/there.toml": there is no such file'
    assert directory == ".: the configuration cannot be read: Is a directory"
    assert '--config = "": is empty' in empty


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("api.openai.com/v1", 'must be a URL that starts with "https://" or "http://"'),
        ("ftp://h", "must be a URL that starts with"),
        ("https://", "the host is missing"),
        ("https:///v1", "the host is missing"),
        ("https://h:0", "the port must be a number from 1 to 65535"),
        ("https://h:port", "the port must be a number from 1 to 65535"),
        ("https://[::1", "is no URL"),
        ("https://a b/v1", "the host is no name and no address"),
        ("https://user:pa55@h/v1", "must hold no user name and no password"),
        ("https://h/v1?api-version=1", "must hold no query and no fragment"),
        ("https://h/v1#", "must hold no query and no fragment"),
        ("https://h/v 1", "the path holds a character that a URL cannot hold"),
        ("https://h/v1\n", "holds a control character"),
    ],
)
def test_upstreams(tmp_path: Path, url: str, message: str) -> None:
    found = complaint(tmp_path, flags={"upstream": url})

    assert found.startswith("--upstream = ")
    assert message in found
    assert "pa55" not in found


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "localhost:6379",
            "must start with one of redis://, rediss://, unix://, redis+sentinel://, rediss+sentinel://, ",
        ),
        ("redi://h", 'did you mean "redis"?'),
        ("http://:pa55@h", "must start with one of"),
        ("redis://:pa55@h:port", "the port must be a number"),
        ("redis://:pa55@", "the host is missing"),
        ("redis://:pa55/x@h", "must be percent-encoded"),
        ("redis://:pa55?x@h", "must be percent-encoded"),
        ("redis://:pa55#x@h", "must be percent-encoded"),
        ("redis://:pa55@h/zero", "must be the number of a database"),
        ("redis://a,b", "several hosts need redis+sentinel:// or redis+cluster://"),
        ("unix://run/s?password=pa55", 'the socket needs an absolute path: write "unix:///run/…"'),
        ("redis+cluster://a:1,b:x", "the port must be a number"),
    ],
)
def test_store_urls(tmp_path: Path, url: str, message: str) -> None:
    found = complaint(tmp_path, environ={"TAXIMETER_REDIS_URL": url})

    assert found.startswith("TAXIMETER_REDIS_URL = ")
    assert message in found
    assert "pa55" not in found


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"workers": "two"}, '--workers = "two": must be a whole number'),
        ({"ops_listen": "x"}, '--ops-listen = "x": a port is missing'),
        ({"data_dir": ""}, '--data-dir = "": is empty'),
        ({"data_dir": "a\udcff"}, "a byte that is not UTF-8"),
    ],
)
def test_flags(tmp_path: Path, flags: Mapping[str, str | None], message: str) -> None:
    assert message in complaint(tmp_path, flags=flags)
