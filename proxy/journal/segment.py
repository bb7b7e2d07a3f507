"""Segments: the files of a journal, its lock, and what brings them to disk."""

import fcntl
import logging
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from struct import Struct

LOCK = "lock"
COUNTED = "counted"
SUFFIX = ".seg"
_NUMBER = Struct("=Q")

log = logging.getLogger(__name__)


class Segment:
    """One file, written in whole frames. Up to `size` it is good; behind that may stand what a failed write left."""

    def __init__(self, path: Path, descriptor: int, size: int, last_number: int) -> None:
        self.path = path
        self.size = size
        self.last_number = last_number
        """The last DONE in it or before it."""
        self._descriptor = descriptor
        self._is_torn = False

    @classmethod
    def create(cls, directory: Path, index: int, first_frame: bytes, last_number: int) -> "Segment":
        """A new file that begins with this frame. Raises OSError, and then leaves none behind."""
        path = directory / f"{index:08d}{SUFFIX}"
        # Not O_EXCL: an earlier attempt that could not be removed is written over.
        segment = cls(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), 0, last_number)
        try:
            segment.write(first_frame)
        except OSError:
            segment.close()
            remove_files([path])
            raise
        return segment

    @classmethod
    def reopen(cls, path: Path, size: int, last_number: int, *, is_cut: bool) -> "Segment":
        """Go on in a file. `is_cut`: behind `size` bytes it is not good, and the next write cuts that off."""
        segment = cls(path, os.open(path, os.O_RDWR | os.O_CLOEXEC), size, last_number)
        segment._is_torn = is_cut
        return segment

    @property
    def index(self) -> int:
        return int(self.path.stem)

    def write(self, frame: bytes) -> None:
        """All of it, or none that counts. Raises OSError."""
        if self._is_torn:  # else the rest of an old frame could stand behind a shorter new one
            os.ftruncate(self._descriptor, self.size)
            self._is_torn = False
        self._is_torn = True
        written = os.pwrite(self._descriptor, frame, self.size)
        while written < len(frame):  # a short write means a full disk, as a rule; the next one says so
            written += os.pwrite(self._descriptor, frame[written:], self.size + written)
        self._is_torn = False
        self.size += len(frame)

    def to_disk(self) -> None:
        """Raises OSError; then nobody knows what of it is on disk, and a second try would not find out (Linux)."""
        if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync stops at the drive's cache
            fcntl.fcntl(self._descriptor, fcntl.F_FULLFSYNC)
        else:
            os.fdatasync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


class Counted:
    """A number in a file of eight bytes that outlives its process: setting it is a write to memory."""

    def __init__(self, directory: Path) -> None:
        """Raises OSError."""
        descriptor = os.open(directory / COUNTED, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size != _NUMBER.size:
                os.ftruncate(descriptor, _NUMBER.size)
                os.pwrite(descriptor, bytes(_NUMBER.size), 0)  # a full disk must show here, and not in memory
            self._memory = mmap.mmap(descriptor, _NUMBER.size)
        finally:
            os.close(descriptor)

    @property
    def number(self) -> int:
        return int(_NUMBER.unpack_from(self._memory)[0])

    @number.setter
    def number(self, number: int) -> None:
        _NUMBER.pack_into(self._memory, 0, number)

    def close(self) -> None:
        self._memory.close()


def sync_directory(directory: Path) -> None:
    """The names in it are on disk. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_files(paths: Sequence[Path]) -> None:
    """Oldest first: what is left by a crash is still a journal. A file that stays is said, and does no harm."""
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.error("%s cannot be removed: %s", path, error.strerror)  # noqa: TRY400 - a finding, not a fault


def segment_paths(directory: Path) -> list[Path]:
    """In order."""
    return sorted(path for path in directory.glob(f"*{SUFFIX}") if path.stem.isdigit())


def take_lock(directory: Path, *, is_new: bool = False) -> int | None:
    """Be the one who writes here; the descriptor that holds the lock. None: somebody else is, or it is gone."""
    path = directory / LOCK
    try:
        # Only a new journal gets a lock file: one that is being removed has none any more, and must not get another.
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if is_new else 0), 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):  # FileNotFoundError: who held it has removed the journal meanwhile
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None
