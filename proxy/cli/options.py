"""The flags that commands share, and the configuration they lead to."""

import argparse
import getpass
import re
import socket
from datetime import UTC, datetime

from proxy.config import Config, load_config
from proxy.errors import UsageError

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_FLAGS = ("config", "redis_url", "data_dir", "listen", "ops_listen", "upstream", "workers")


def add_config_arguments(parser: argparse.ArgumentParser, *, again: bool = False) -> None:
    """`--config`, `--redis-url`, `--data-dir`: where the configuration and the store are.

    `again`: behind an action; what stands before the action holds unless it is given again.
    """
    default = argparse.SUPPRESS if again else None
    group = parser.add_argument_group("configuration (flags win over TAXIMETER_… variables, those over the file)")
    group.add_argument(
        "--config", default=default, metavar="FILE", help="TOML file (TAXIMETER_CONFIG; else ./taximeter.toml if there)"
    )
    group.add_argument(
        "--redis-url", default=default, metavar="URL", help="the store (TAXIMETER_REDIS_URL; else the embedded one)"
    )
    group.add_argument(
        "--data-dir", default=default, metavar="DIR", help="the embedded store's data (TAXIMETER_DATA_DIR)"
    )


def add_json_argument(parser: argparse.ArgumentParser, *, again: bool = False) -> None:
    default = argparse.SUPPRESS if again else False
    parser.add_argument("--json", action="store_true", default=default, help="print JSON instead of a table")


def moment(flag: str, text: str) -> datetime:
    """A date, which means its first moment in UTC, or a time with its offset. Raises UsageError."""
    try:
        at = datetime.fromisoformat(text.upper())
        if _DATE.fullmatch(text):
            return at.replace(tzinfo=UTC)
        if at.tzinfo is not None:
            return at.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise UsageError(f'{flag} "{text}": write a date as YYYY-MM-DD, or a time as 2026-11-22T00:00:00Z')


def read_config(args: argparse.Namespace, *, with_upstream_key: bool = False) -> Config:
    """The configuration under these flags. Only who forwards needs the upstream's key, and only they read it."""
    flags = {flag: getattr(args, flag, None) for flag in _FLAGS}
    return load_config(flags, with_upstream_key=with_upstream_key)


def operator() -> str:
    """Who runs this command, for the audit: `user@machine`."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        name = "unknown"
    return f"{name}@{socket.gethostname()}"
