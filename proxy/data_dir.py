"""The local directory: who owns it, and which locks stand in it.

    serve.lock     exclusive while a `serve` runs; holds its process id
    store.start    exclusive while somebody starts or stops the embedded store
    store.users    shared by everybody who uses the embedded store
    store.server   exclusive by the embedded server itself; holds its process id and its socket
    store.log      what the server says
    store/         its append-only file
    proxy-id       eight hex digits that tell this directory's workers from those of other proxies
    journal/       a directory for each worker's journal; see proxy.journal

All are flocks: the kernel drops them with the process that holds them, however it dies.
"""

import fcntl
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from proxy.errors import UsageError


class DataDir:
    """A directory that is made when it is needed, for its owner alone."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def made(self) -> Path:
        """The directory, which exists now. Raises UsageError."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"data directory {self.path} cannot be made: {error.strerror}") from None
        return self.path

    @property
    def journals(self) -> Path:
        return self.path / "journal"

    def proxy_id(self) -> str:
        """Made once. Raises UsageError."""
        path = self.made() / "proxy-id"
        with suppress(FileNotFoundError):
            return path.read_text().strip()
        with tempfile.NamedTemporaryFile("w", dir=self.path, prefix="proxy-id.") as made:
            made.write(secrets.token_hex(4))
            made.flush()
            with suppress(FileExistsError):
                os.link(made.name, path)  # whole or not at all, and only the first one's
        return path.read_text().strip()

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Be the one `serve` on this directory. Raises UsageError when there is one."""
        lock = self.open_lock("serve.lock")
        try:
            if not try_lock(lock, fcntl.LOCK_EX):
                pid = os.pread(lock, 20, 0).decode(errors="replace").strip() or "unknown"
                raise UsageError(
                    f"{self.path} is already served by pid {pid}; stop that one, or give this one a data directory "
                    "of its own (TAXIMETER_DATA_DIR)"
                )
            write_over(lock, str(os.getpid()))
            yield
        finally:
            os.close(lock)

    def open_lock(self, name: str) -> int:
        """The file to lock, as a descriptor that other programs do not inherit."""
        path = self.made() / name
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UsageError(f"{path} cannot be opened: {error.strerror}") from None


def try_lock(descriptor: int, kind: int) -> bool:
    """Lock without waiting; whether that worked."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_over(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)
