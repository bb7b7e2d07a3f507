"""Files that are read again when they change: seen by looking, which works on every file system and in containers."""

from collections.abc import Sequence
from pathlib import Path

Look = tuple[tuple[Path, int, int, int], ...]


def look(files: Sequence[Path]) -> Look:
    """What can be seen of the files without reading them. A file that is not there looks like nothing else."""
    return tuple((file, *_seen(file)) for file in files)


def _seen(file: Path) -> tuple[int, int, int]:
    try:
        found = file.stat()
    except OSError:
        return (-1, -1, -1)
    return (found.st_mtime_ns, found.st_size, found.st_ino)
