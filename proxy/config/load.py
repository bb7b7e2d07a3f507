"""Flags > environment > TOML > defaults, into one frozen Config. Every failure is a ConfigError of one line."""

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from proxy.config.environment import process_environ, user_data_dir
from proxy.config.keys import IN_ENVIRONMENT, READERS, refuse_unknown
from proxy.config.notify import with_secrets
from proxy.config.records import Address, Config, Secret
from proxy.config.sources import Setting
from proxy.config.urls import has_data_residency, provider_of
from proxy.config.values import path
from proxy.errors import ConfigError

DEFAULT_FILE = "taximeter.toml"
_ANY_HOST = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound
_AT_LINE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def load_config(
    flags: Mapping[str, str | None],
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    *,
    with_upstream_key: bool = True,
) -> Config:
    """Read the configuration. Raises ConfigError for the first thing that is wrong.

    `flags` is {key or "config": text}; None is a flag that was not given. `with_upstream_key=False` is for who
    does not forward: the secrets of the environment are then neither looked up nor checked.
    """
    variables = process_environ() if environ is None else environ
    here = _here() if cwd is None else cwd
    source, settings = _from_file(flags, variables, here)
    for variable, key in IN_ENVIRONMENT.items():
        if variables.get(variable):
            settings[key] = Setting(variables[variable], variable, here, as_text=True)
    for key, value in flags.items():
        if value is not None and key != "config":
            settings[key] = Setting(value, f"--{key.replace('_', '-')}", here, as_text=True)

    values: dict[str, Any] = {key: READERS[key](setting) for key, setting in settings.items()}
    values["budgets"] = values.pop("budget", ())
    key_file = values.pop("upstream_key_file", None)
    if with_upstream_key:
        values["warnings"] = () if key_file is None else _open_to_all(settings["upstream_key_file"], key_file)
        values["upstream_key"] = _upstream_key(settings, key_file, values.get("upstream_key_env"), variables)
        if "notify" in values:
            values["notify"] = with_secrets(values["notify"], settings["notify"].label, variables)
    if "data_dir" not in values:
        values["data_dir"] = user_data_dir(variables)
    config = Config(source=source, **values)
    values.setdefault("provider", provider_of(config.upstream))
    values.setdefault("data_residency", has_data_residency(config.upstream))
    config = Config(source=source, **values)
    _refuse_same_address(config, settings)
    return config


def _here() -> Path:
    try:
        return Path.cwd()
    except OSError:
        raise ConfigError("the current directory is gone: change to one that exists") from None


def _from_file(
    flags: Mapping[str, str | None], environ: Mapping[str, str], here: Path
) -> tuple[Path | None, dict[str, Setting]]:
    """The file that holds the configuration, if there is one, and its settings in the file's order."""
    given = flags.get("config")
    origin = "--config"
    if given is None:
        given, origin = environ.get("TAXIMETER_CONFIG") or None, "TAXIMETER_CONFIG"
    if given is None and not os.path.lexists(here / DEFAULT_FILE):
        return None, {}
    shown = DEFAULT_FILE if given is None else given
    setting = Setting(shown, origin, here)
    file = path(setting)
    table = _read_toml(file, shown, setting)
    refuse_unknown(shown, table)
    return file, {key: Setting(value, f"{shown}: {key}", file.parent) for key, value in table.items()}


def _read_toml(file: Path, shown: str, setting: Setting) -> dict[str, Any]:
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise setting.wrong("there is no such file") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(f"{shown}: the configuration cannot be read: {reason}") from None
    try:
        document = data.decode("utf-8-sig")  # Windows editors put a byte order mark there
    except UnicodeDecodeError as error:
        number = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{shown}: line {number}: is not UTF-8 text; save the file as UTF-8") from None
    try:
        return tomllib.loads(document, parse_float=_exact)
    except RecursionError:
        raise ConfigError(f"{shown}: is nested too deeply to be a configuration") from None
    except ValueError as error:  # TOMLDecodeError, and ints of more digits than Python reads
        message = str(error)
        at = _AT_LINE.search(message)
        if at is None:
            raise ConfigError(f"{shown}: is not TOML: {message}") from None
        line, column = at.groups()
        if line is None:  # the end: behind the last character that is not blank
            lines = document.rstrip().split("\n")
            line, column = str(len(lines)), str(len(lines[-1]) + 1)
        raise ConfigError(f"{shown}: line {line}, column {column}: {message[: at.start()]}") from None


def _exact(text: str) -> Decimal:
    """A TOML float as it was written: 0.8 is 0.8 here, not the binary number next to it."""
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond what Decimal holds
        return Decimal("NaN")


def _upstream_key(
    settings: Mapping[str, Setting], key_file: Path | None, variable: str | None, environ: Mapping[str, str]
) -> Secret | None:
    """The key for callers that come with a taximeter key. None: there is none, and such callers are told so."""
    if key_file is not None:
        setting = settings["upstream_key_file"]
        if variable is not None:
            raise setting.wrong("cannot stand beside upstream_key_env; leave one of them out")
        try:
            content = key_file.read_text("ascii").strip()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
            raise setting.wrong(f"the key cannot be read: {reason}") from None
        if not content:
            raise setting.wrong("the file is empty")
        return _checked_key(content, setting.label)
    content = environ.get(variable or "OPENAI_API_KEY", "").strip()
    if not content:
        return None
    if variable is None and content.startswith("tm-"):
        return None  # a developer's shell, whose own calls go through taximeter: no key for upstream
    return _checked_key(content, variable or "OPENAI_API_KEY")


def _open_to_all(setting: Setting, key_file: Path) -> tuple[str, ...]:
    """A warning where everybody on this machine may read the key."""
    try:
        mode = key_file.stat().st_mode
    except OSError:  # who reads it says so
        return ()
    if not mode & stat.S_IROTH:
        return ()
    return (f"{setting.label}: everybody on this machine can read {key_file}: chmod o-r it",)


def _checked_key(content: str, place: str) -> Secret:
    """The content is never shown."""
    if content.startswith("tm-"):
        raise ConfigError(f"{place}: holds a taximeter key (tm-…); the upstream needs a key of its own")
    if not re.fullmatch(r"[\x21-\x7e]+", content):
        raise ConfigError(f"{place}: the key holds blanks, line breaks or letters beyond ASCII; it must be one word")
    return Secret(content)


def _refuse_same_address(config: Config, settings: Mapping[str, Setting]) -> None:
    first, second = config.listen, config.ops_listen
    if _overlap(first, second):
        setting = settings.get("ops_listen") or settings["listen"]
        raise setting.wrong(f"listen ({first}) and ops_listen ({second}) need different ports")


def _overlap(first: Address, second: Address) -> bool:
    if first.port != second.port or first.port == 0:
        return False
    return first.host == second.host or first.host in _ANY_HOST or second.host in _ANY_HOST
