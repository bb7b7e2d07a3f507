"""An append-only file that does not load: a torn end is cut off and kept beside it; anything else is for a person.

A machine that stops may leave the file's last bytes half written, or as zeros. What they belonged to was not durable,
so a journal still has it. Damage further in is never cut: everything behind it would go.
"""

import logging
import os
import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote

TORN = "Unexpected end of file reading the append only file"
DAMAGED = "Bad file format reading the append only file"
_NAMED = re.compile(rf"(?:{TORN}|{DAMAGED}) ([^\s:]*[^\s:.])")
_BLOCK = 1 << 20

log = logging.getLogger("taximeter")


@dataclass(frozen=True, slots=True)
class TornEnd:
    """A copy of the file as it was found, until it is known what was cut off."""

    file: Path
    copy: Path
    size: int

    def keep_what_was_cut(self) -> None:
        """The server has loaded the file up to its last whole command: keep the rest, and say so."""
        size = self.file.stat().st_size
        cut = self.copy.with_suffix("")
        with self.copy.open("rb") as found, cut.open("wb") as kept:
            found.seek(size)
            shutil.copyfileobj(found, kept)
        self.copy.unlink()
        log.warning(
            "the last %d bytes of the embedded store's file %s were not written whole: they are cut off, kept as %s",
            self.size - size,
            self.file,
            cut,
        )


def torn_end(kept: Path, said: str) -> TornEnd | None:
    """What the server said of its files below `kept`, when it did not load them, may mean a torn end. Raises OSError.

    Zeros at the end are cut off here (no command ends so); the rest is for the server, told to cut.
    """
    file = _file(kept, said)
    if file is None:
        return None
    size = file.stat().st_size
    end = size if TORN in said else _end_without_zeros(file, size)
    if TORN not in said and end == size:
        return None
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    copy = kept.parent / f"store-cut-{stamp}.aof.found"
    shutil.copyfile(file, copy)
    os.truncate(file, end)
    return TornEnd(file, copy, size)


def advice(kept: Path, said: str, binary: str) -> str | None:
    """What to do about a damaged file, in one line; None: it is not that."""
    file = _file(kept, said)
    if file is None or DAMAGED not in said:
        return None
    checker = "redis-check-aof" if "redis" in Path(binary).name else "valkey-check-aof"  # by that name it is one
    return (
        f"{file} is damaged, and nothing of it was thrown away: put a backup of {kept} back; or copy that directory "
        "and cut the file where the damage begins, losing all behind it but what the journals still have, in bash: "
        f"(exec -a {checker} {quote(binary)} --fix {quote(str(file))})"
    )


def _file(kept: Path, said: str) -> Path | None:
    named = _NAMED.search(said)
    return next(kept.rglob(named[1]), None) if named else None


def _end_without_zeros(file: Path, size: int) -> int:
    with file.open("rb") as read:
        while size:
            begin = max(0, size - _BLOCK)
            read.seek(begin)
            block = read.read(size - begin).rstrip(b"\0")
            if block:
                return begin + len(block)
            size = begin
    return 0
