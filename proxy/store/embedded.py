"""The embedded store: a Valkey on a unix socket, kept in the data directory, shared by all who need it.

Whoever comes first starts it, whoever leaves last stops it: so a command never stops the store of a running `serve`,
and a store that outlived a killed `serve` is found again. It runs in a session of its own, because Ctrl-C must not
reach it while the proxy drains. The server inherits a lock that only it holds, so that two never write the same file.
"""

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from proxy.data_dir import DataDir, try_lock, write_over
from proxy.errors import UsageError
from proxy.store.damage import advice, torn_end
from proxy.store.server import (
    LOOK_AGAIN,
    STARTS_WITHIN,
    ask,
    last_line,
    options,
    server_binary,
    socket_path,
    wait_for_pong,
)

__all__ = ["DataDir", "EmbeddedStore", "embedded_store"]

STOPS_WITHIN = 30.0
REACHED_WITHIN = 5.0


@contextmanager
def embedded_store(data_dir: Path) -> Iterator[str]:
    """The URL of the store in this directory, for as long as it is needed. Raises UsageError."""
    store = EmbeddedStore(data_dir)
    try:
        yield store.open()
    finally:
        store.close()


class EmbeddedStore:
    """One user of the embedded store of a data directory."""

    def __init__(self, data_dir: Path) -> None:
        self._dir = DataDir(data_dir)
        self._users: int | None = None
        self._child: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """Start the server if none runs, and wait for nothing: `open` does. Raises UsageError."""
        with self._starting(), self._using():
            if not self._runs():
                program = _Program(self._dir.made())
                with _said_why(program):
                    self._launch(program, cuts=False)

    def open(self) -> str:
        """Attach to the store that runs, or start it. Returns its URL. Again: starts it when it has died."""
        with self._starting(), self._using():
            path = self._attached() or self._started()
        return f"unix://{quote(path)}"

    @contextmanager
    def _using(self) -> Iterator[None]:
        """Be one of its users from now on, if that works."""
        is_first = self._users is None
        if self._users is None:
            self._users = self._dir.open_lock("store.users")
            fcntl.flock(self._users, fcntl.LOCK_SH)
        try:
            yield
        except BaseException:
            if is_first:
                os.close(self._users)
                self._users = None
            raise

    def revive(self) -> None:
        """Start the server again if it has died. One that is only slow or stopped is left alone. Raises UsageError."""
        if not self._runs():
            self.open()

    def close(self) -> None:
        """Leave. The last one stops the server, which first writes everything to disk."""
        if self._users is None:
            return
        users, self._users = self._users, None
        try:
            with self._starting():
                fcntl.flock(users, fcntl.LOCK_UN)
                if try_lock(users, fcntl.LOCK_EX):
                    self._stop()
        finally:
            os.close(users)
            if self._child is not None and self._child.poll() is None:
                self._child.returncode = 0  # it lives on for the others; nobody here waits for it

    @contextmanager
    def _starting(self) -> Iterator[None]:
        """Nobody else starts or stops it meanwhile."""
        lock = self._dir.open_lock("store.start")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _attached(self) -> str | None:
        """The socket of the server that runs, once it answers; None when none runs."""
        server = self._dir.open_lock("store.server")
        try:
            if try_lock(server, fcntl.LOCK_EX):
                return None
            pid, path = _pid_and_path(server)
        finally:
            os.close(server)
        is_ours = self._child is not None and self._child.pid == pid
        answer = wait_for_pong(path, lambda: not self._runs(), STARTS_WITHIN if is_ours else REACHED_WITHIN)
        if answer is True:
            return path
        if answer is not None and self._is_alone():  # its socket is gone, for one, and nobody else is in its way
            self._signal(pid)
            answer = None if not self._runs() else answer
        if answer is None:  # it has died meanwhile
            return None
        raise UsageError(
            f"the embedded store of {self._dir.path} (pid {pid}) runs but does not answer on {path}: {answer}; "
            f"stop it (kill {pid}) and try again"
        )

    def _is_alone(self) -> bool:
        """Whether nobody else uses the server. Under the start lock nobody can come meanwhile."""
        assert self._users is not None
        is_alone = try_lock(self._users, fcntl.LOCK_EX)
        fcntl.flock(self._users, fcntl.LOCK_SH)
        return is_alone

    def _signal(self, pid: int) -> None:
        """SIGTERM makes the server write everything to disk and end."""
        if pid > 0:  # 0 would be our own process group; it stands there until the server's id is known
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        self._wait_for_end()

    def _wait_for_end(self) -> None:
        until = time.monotonic() + STOPS_WITHIN
        while self._runs() and time.monotonic() < until:
            time.sleep(LOOK_AGAIN)

    def _started(self) -> str:
        """The socket of a new server. Raises UsageError."""
        program = _Program(self._dir.made())
        with _said_why(program):
            said = self._launched(program, cuts=False)
            if said is not None and (torn := torn_end(program.kept, said)):
                said = self._launched(program, cuts=True)
                if said is None:
                    torn.keep_what_was_cut()
        if said is not None:
            why = advice(program.kept, said, program.binary) or said
            raise UsageError(f"the embedded store does not start: {why} (see {program.log})")
        return program.path

    def _launched(self, program: "_Program", *, cuts: bool) -> str | None:
        """Start the server and wait until it answers; else what it said last. Raises OSError."""
        began = self._launch(program, cuts=cuts)
        child = self._child
        assert child is not None  # it was just started
        answer = wait_for_pong(program.path, lambda: child.poll() is not None, STARTS_WITHIN)
        if answer is True:
            return None
        if child.poll() is None:
            child.kill()
            child.wait()
        return last_line(program.log, began) or str(answer)

    def _launch(self, program: "_Program", *, cuts: bool) -> int:
        """Start the server; how long its log was before. Raises OSError."""
        if self._child is not None:
            self._child.wait()  # it has died: its lock was free
        server = self._dir.open_lock("store.server")
        try:
            fcntl.flock(server, fcntl.LOCK_EX)
            write_over(server, f"0\n{program.path}")
            with program.log.open("ab") as output:
                began = output.tell()
                # It inherits the lock and holds it as long as it lives.
                self._child = subprocess.Popen(  # noqa: S603 - our own binary, arguments as a list
                    [program.binary, *options(program.path, program.kept, program.log, cuts=cuts)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=(server,),
                    start_new_session=True,
                    umask=0o077,
                )
            write_over(server, f"{self._child.pid}\n{program.path}")
        finally:
            os.close(server)
        return began

    def _stop(self) -> None:
        """Ask the server to end, and wait. One that does not listen gets a signal; its file is append-only."""
        server = self._dir.open_lock("store.server")
        try:
            if try_lock(server, fcntl.LOCK_EX):
                return
            pid, path = _pid_and_path(server)
        finally:
            os.close(server)
        try:
            ask(path, b"SHUTDOWN")
        except OSError:
            self._signal(pid)
        else:
            self._wait_for_end()
        if self._child is not None:
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(1)

    def _runs(self) -> bool:
        """Whether a server holds its lock. A child that has died is buried first, its lock is gone anyway."""
        if self._child is not None:
            self._child.poll()
        server = self._dir.open_lock("store.server")
        try:
            return not try_lock(server, fcntl.LOCK_EX)
        finally:
            os.close(server)


class _Program:
    """The server's binary and its places. Raises UsageError."""

    def __init__(self, directory: Path) -> None:
        self.path, self.kept, self.log = socket_path(directory), directory / "store", directory / "store.log"
        self.binary = server_binary()


@contextmanager
def _said_why(program: _Program) -> Iterator[None]:
    """What the system refuses becomes a UsageError."""
    try:
        program.kept.mkdir(mode=0o700, exist_ok=True)
        yield
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        raise UsageError(f"the embedded store {program.binary} cannot be started: {what}{error.strerror}") from None


def _pid_and_path(server: int) -> tuple[int, str]:
    pid, _, path = os.pread(server, 4096, 0).decode().partition("\n")
    return int(pid or 0), path
