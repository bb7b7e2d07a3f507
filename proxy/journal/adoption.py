"""Adoption: what a dead writer's journal says, and going on in it.

A record that was cut, or damaged, in the last segment ends the journal there: it was being written when its writer, or
the machine, died. In an earlier segment that is damage. Then the rest of that segment is not guessed at; the BASE of
the next one says how far it went and what was still open, and what ended in between is `open` here too (`is_whole` is
False): only the store knows how.
"""

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

from proxy.errors import JournalFailed
from proxy.journal import frames
from proxy.journal.frames import Base, Done, Dropped, Opened, Record
from proxy.journal.journal import SEGMENT_BYTES, Journal
from proxy.journal.segment import Counted, Segment, remove_files, segment_paths, take_lock

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Adopted:
    """What was found, and the journal itself, to go on with: `done` and `drop` what is open, `confirm`, `close`.

    Its writer cannot have sent more to the store than stands here, but if the machine has crashed (the tail of the
    journal had not reached the disk). A store that counts further than `journal.last_number` says so: then, and when
    it is not whole, some of what is open may have been settled already; and `journal.continue_after` is due.
    """

    journal: Journal
    open: dict[str, bytes]
    """Entry id → body of what was opened and has no end here."""
    finished: list[tuple[int, str, bytes]]
    """DONE records that are still here, in order. A number that is missing cannot be read any more."""
    is_whole: bool
    counted: int
    """The DONEs up to this number stand in the metrics."""

    @property
    def writer(self) -> str:
        return self.journal.writer


def orphans(directory: Path) -> list[Path]:
    """Journals below `directory` that nobody holds. One that is only being made has no segment yet."""
    if not directory.is_dir():
        return []
    return [path for path in sorted(directory.iterdir()) if segment_paths(path) and _is_free(path)]


def _is_free(path: Path) -> bool:
    lock = take_lock(path)
    if lock is None:
        return False
    os.close(lock)
    return True


def adopt(path: Path, *, segment_bytes: int = SEGMENT_BYTES) -> Adopted | None:
    """Take a dead writer's journal over; None when somebody holds it, or it is gone. Raises JournalFailed."""
    try:
        lock = take_lock(path)
        if lock is None:
            return None
        try:
            return _adopted(path, lock, segment_bytes)
        except BaseException:
            os.close(lock)
            raise
    except OSError as error:
        raise JournalFailed(f"the journal {path} cannot be read: {error.filename or ''} {error.strerror}") from error


@dataclass(slots=True)
class _Found:
    """What the records say so far."""

    number: int = 0
    open: dict[str, bytes] = field(default_factory=dict)
    finished: list[tuple[int, str, bytes]] = field(default_factory=list)
    unsure: dict[str, bytes] = field(default_factory=dict)
    began: bool = False
    is_whole: bool = True

    def take(self, record: Record) -> None:
        if isinstance(record, Opened):
            self.open[record.entry_id] = record.body
        elif isinstance(record, Done):
            self._reached(record.number - 1)
            self.number = record.number
            self.finished.append((record.number, record.entry_id, record.body))
            self.open.pop(record.entry_id, None)
            self.unsure.pop(record.entry_id, None)
        elif isinstance(record, Dropped):
            self.open.pop(record.entry_id, None)
            self.unsure.pop(record.entry_id, None)
        else:
            self._based(record)

    def _based(self, base: Base) -> None:
        if self.began:
            self._reached(base.number)
            ended = {entry_id: body for entry_id, body in self.open.items() if entry_id not in base.open}
            if ended:
                self.unsure |= ended
                self.is_whole = False
        self.began = True
        self.number, self.open = max(self.number, base.number), dict(base.open)

    def _reached(self, number: int) -> None:
        """Numbers up to this one were given. What lies between cannot be read."""
        if number > self.number:
            self.is_whole = False


def _adopted(path: Path, lock: int, segment_bytes: int) -> Adopted:
    found = _Found()
    paths = segment_paths(path)
    segments: list[Segment] = []
    try:
        for file in paths:
            is_last = file is paths[-1]
            good = _read(file, path.name, found, is_last=is_last)
            if good or not is_last:
                segments.append(Segment.reopen(file, good, found.number, is_cut=is_last))
            else:  # it was only just begun
                remove_files([file])
        counted = Counted(path)
        if not segments:
            segments.append(Segment.create(path, 1, frames.base(path.name, 0, {}), 0))
    except BaseException:
        for segment in segments:
            segment.close()
        raise
    open_ = found.open | found.unsure
    journal = Journal(
        path,
        lock,
        counted,
        segments,
        last_number=found.number,
        open_=dict(open_),
        segment_bytes=segment_bytes,
        new_in=(path,),
    )
    return Adopted(journal, open_, found.finished, found.is_whole, counted.number)


def _read(file: Path, writer: str, found: _Found, *, is_last: bool) -> int:
    """Take in the records of a segment, and say up to where they are good. Raises JournalFailed for a foreign one."""
    data = file.read_bytes()
    good = 0
    try:
        for record, end in frames.read(data):
            if isinstance(record, Base) and record.writer != writer:
                raise JournalFailed(f"{file} belongs to the journal of {record.writer}: move it back")
            found.take(record)
            good = end
    except frames.UnknownRecord as unknown:
        raise JournalFailed(
            f"{file} was written by another version of taximeter ({unknown}): start that one to finish it"
        ) from None
    if good < len(data):
        bad = len(data) - good
        if is_last:
            log.warning("the last %d bytes of %s were not written whole; they are cut off", bad, file)
        else:
            log.error("%s is damaged: its last %d bytes cannot be read, and are left out", file, bad)
            found.is_whole = False
    return good
