"""Whatever stands behind a key, the answer is a Config or one clear line."""

import contextlib
from pathlib import Path

import pytest

from proxy.config import load_config
from proxy.config.budgets import READERS as BUDGET_READERS
from proxy.config.keys import READERS
from proxy.errors import ConfigError

LITERALS = [
    "0",
    "-1",
    "1e400",
    "-0.0",
    "nan",
    "-inf",
    "true",
    '""',
    '" "',
    '"\\u0000"',
    '"\\n"',
    '"~"',
    '"~/x"',
    '"../.."',
    '"://"',
    '"://@"',
    '"http://@"',
    '"http://["',
    '"redis://["',
    '"redis://@:"',
    '"unix://"',
    '":"',
    '"[]:1"',
    '"\U0001f600"',
    '"\\u202e"',
    "[]",
    "[[]]",
    "[{}]",
    "{}",
    '{ "" = "" }',
    "{ a = { b = 1 } }",
    "2026-11-22T00:00:00Z",
    "00:00:00",
]


@pytest.mark.parametrize("literal", LITERALS)
def test_any_value(tmp_path: Path, literal: str) -> None:
    for key in READERS:
        check(tmp_path, f"{key} = {literal}")
    for key in BUDGET_READERS:
        others = {"name": '"b"', "limit_usd": '"1"', "period": '"day"', key: literal}
        check(tmp_path, "[[budget]]\n" + "\n".join(f"{name} = {value}" for name, value in others.items()))


def check(directory: Path, toml: str) -> None:
    (directory / "taximeter.toml").write_text(toml, "utf-8")
    with contextlib.suppress(ConfigError):
        load_config({}, {"HOME": "/h"}, directory)
        return
    with pytest.raises(ConfigError) as caught:
        load_config({}, {"HOME": "/h"}, directory)
    message = str(caught.value)
    assert message.isprintable(), toml
    assert message.startswith("taximeter.toml: "), toml
