"""How `taximeter budgets reload` and `serve` talk: a signal, and two small files in the data directory.

reload.lock   exclusive by who asks: one at a time
reload.ask    a word that was never used before, written before the signal
reload.said   that word again, and what came of it
"""

import fcntl
import os
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from proxy.data_dir import try_lock
from proxy.errors import TaximeterError, UsageError
from proxy.store import DataDir

SIGNAL_EVERY = 2.0  # seconds: one that came while serve was starting is not heard
LOOK_SECONDS = 0.05


class Outcome(msgspec.Struct, frozen=True):
    """What became of reading the configuration again: all of it was applied (`changes`), or nothing (`problem`)."""

    changes: tuple[str, ...] = ()
    problem: str | None = None


class _Said(msgspec.Struct, frozen=True):
    word: str
    outcome: Outcome


def asked_word(data_dir: Path) -> str | None:
    """Serve's side, before it reads anything: the word of who asked, if somebody did."""
    try:
        return (data_dir / "reload.ask").read_text()
    except OSError:
        return None


def say(data_dir: Path, word: str, outcome: Outcome) -> None:
    """Serve's side: tell who asked. Raises OSError."""
    _write(data_dir / "reload.said", msgspec.json.encode(_Said(word, outcome)))


def ask(data_dir: Path, seconds: float) -> Outcome:
    """Make the `serve` of this data directory read its configuration again, and wait for what came of it.

    Raises UsageError when none runs there, TaximeterError when it says nothing.
    """
    directory = DataDir(data_dir)
    with _alone(directory):
        word = secrets.token_hex(8)
        _write(data_dir / "reload.ask", word.encode())
        deadline = time.monotonic() + seconds
        next_signal = 0.0
        while time.monotonic() < deadline:
            if time.monotonic() >= next_signal:
                _signal(directory)
                next_signal = time.monotonic() + SIGNAL_EVERY
            if (outcome := _outcome(data_dir, word)) is not None:
                return outcome
            time.sleep(LOOK_SECONDS)
    raise TaximeterError(f"the serve of {data_dir} did not say within {seconds:g} s what came of it; look at its log")


@contextmanager
def _alone(directory: DataDir) -> Iterator[None]:
    lock = directory.open_lock("reload.lock")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _signal(directory: DataDir) -> None:
    lock = directory.open_lock("serve.lock")
    try:
        if try_lock(lock, fcntl.LOCK_SH):
            raise UsageError(f"no taximeter serves {directory.path}: name its data directory with --data-dir")
        pid = os.pread(lock, 20, 0).decode(errors="replace").strip()
        os.kill(int(pid), signal.SIGHUP)
    except (OSError, ValueError) as error:
        raise UsageError(f"the serve of {directory.path} cannot be signalled: {error}") from None
    finally:
        os.close(lock)


def _outcome(data_dir: Path, word: str) -> Outcome | None:
    try:
        said = msgspec.json.decode((data_dir / "reload.said").read_bytes(), type=_Said)
    except (OSError, msgspec.DecodeError):
        return None
    return said.outcome if said.word == word else None


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, and for the owner alone."""
    new = path.with_name(f"{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)
    new.replace(path)
