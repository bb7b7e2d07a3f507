"""The process's environment and the platform's directories. Nothing else in the project reads `os.environ`, but for
`proxy.compiled`, which has to choose before anything is imported.

An empty variable counts as not set, as in most shells' own `${NAME:-default}`.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from proxy.errors import ConfigError


def process_environ() -> Mapping[str, str]:
    """The environment of this process, for who must hand it on (a child process, a test)."""
    return os.environ


def count_metrics_in(directory: Path) -> None:
    """For this process and those that it starts: prometheus_client looks for it in the environment alone."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)


def no_color(environ: Mapping[str, str] | None = None) -> bool:
    """The user asked for plain output (https://no-color.org), or the terminal can do no other."""
    variables = os.environ if environ is None else environ
    return bool(variables.get("NO_COLOR")) or variables.get("TERM") == "dumb"


def home_dir(environ: Mapping[str, str] | None = None) -> Path:
    """$HOME, or what the system says about the user. Raises ConfigError when neither knows."""
    variables = os.environ if environ is None else environ
    if variables.get("HOME"):
        return Path(variables["HOME"])
    try:
        return Path.home()
    except RuntimeError:
        raise ConfigError("no home directory is known: set TAXIMETER_DATA_DIR to a directory for the data") from None


def user_data_dir(environ: Mapping[str, str] | None = None, platform: str = sys.platform) -> Path:
    """Where data goes when nobody said: $XDG_DATA_HOME/taximeter, ~/.local/share/taximeter, or macOS's own place."""
    variables = os.environ if environ is None else environ
    if platform == "darwin":
        return home_dir(variables) / "Library" / "Application Support" / "taximeter"
    given = variables.get("XDG_DATA_HOME", "")
    # The XDG specification: a relative path in these variables is invalid and ignored.
    base = Path(given) if given.startswith("/") else home_dir(variables) / ".local" / "share"
    return base / "taximeter"


def runtime_dir(environ: Mapping[str, str] | None = None) -> Path | None:
    """$XDG_RUNTIME_DIR when it is absolute: a short private directory for sockets. None where there is none."""
    given = (os.environ if environ is None else environ).get("XDG_RUNTIME_DIR", "")
    return Path(given) if given.startswith("/") else None
