"""The platform's directories, and what the user's terminal wants."""

from pathlib import Path

import pytest

from proxy.config import environment
from proxy.errors import ConfigError


@pytest.mark.parametrize(
    ("environ", "platform", "expected"),
    [
        ({"HOME": "/h"}, "linux", "/h/.local/share/taximeter"),
        ({"HOME": "/h", "XDG_DATA_HOME": "/x"}, "linux", "/x/taximeter"),
        ({"HOME": "/h", "XDG_DATA_HOME": "relative"}, "linux", "/h/.local/share/taximeter"),
        ({"HOME": "/h", "XDG_DATA_HOME": ""}, "linux", "/h/.local/share/taximeter"),
        ({"HOME": "/h", "XDG_DATA_HOME": "/x"}, "darwin", "/h/Library/Application Support/taximeter"),
    ],
)
def test_user_data_dir(environ: dict[str, str], platform: str, expected: str) -> None:
    assert Path(expected) == environment.user_data_dir(environ, platform)


def test_nobody_knows_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)

    with pytest.raises(ConfigError, match="set TAXIMETER_DATA_DIR"):
        environment.user_data_dir({}, "linux")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, False),
        ({"NO_COLOR": ""}, False),
        ({"NO_COLOR": "1"}, True),
        ({"TERM": "dumb"}, True),
        ({"TERM": "xterm"}, False),
    ],
)
def test_no_color(environ: dict[str, str], expected: bool) -> None:
    assert expected is environment.no_color(environ)


def test_runtime_dir() -> None:
    assert Path("/run/user/1000") == environment.runtime_dir({"XDG_RUNTIME_DIR": "/run/user/1000"})
    assert environment.runtime_dir({"XDG_RUNTIME_DIR": "run"}) is None
    assert environment.runtime_dir({}) is None
