"""Appending: what a journal writes, in order, and what waits for the disk or for the end of the turn.

An OPEN that returns is in the kernel: it outlives this process. DONE and DROP are gathered, where an event loop was
given (`gather`): all that ends in one of its turns is written at once, at the end of the turn or together with the next
OPEN. A process that is killed loses those of that very turn; they are presumed.

When the disk does not take it, no OPEN is accepted (nothing may be forwarded), while DONE and DROP are kept in memory
and written before the next OPEN.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from proxy.errors import JournalFailed
from proxy.journal import frames
from proxy.journal.segment import Segment

log = logging.getLogger(__name__)


class Appending:
    """The half of a journal that writes."""

    def __init__(
        self,
        directory: Path,
        segments: Sequence[Segment],
        *,
        last_number: int,
        open_: dict[str, bytes],
        segment_bytes: int,
    ) -> None:
        self.writer = directory.name
        self.last_number = last_number
        """The number of the last DONE."""
        self._directory = directory
        self._open = open_  # what is open on disk: what waits in the backlog still counts
        self._backlog: deque[tuple[bytes, str, int]] = deque()  # frames with their entry's id and the number after them
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_due = False  # at the end of this turn the backlog is written
        self._segment_bytes = segment_bytes
        self._segments = deque(segments)
        self._segment = segments[-1]
        self._rotate_at = self._segment.size + segment_bytes
        self._must_rotate = False
        self._failure = ""
        self._is_closed = False
        self._appended = 1  # writes; it has begun with one that is not on disk
        self._left = list(segments)[:-1]  # segments that are full, but not yet known to be on disk
        self._new_in: list[Path] = []  # directories with names that may not be on disk

    @property
    def is_failing(self) -> bool:
        """The last write or sync failed; nothing may be forwarded."""
        return bool(self._failure)

    @property
    def open_count(self) -> int:
        return len(self._open)

    @property
    def disk_bytes(self) -> int:
        """What it takes on disk, confirmed records of segments that are not full included."""
        return sum(segment.size for segment in self._segments)

    def gather(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on what ends in one turn of this loop is written together."""
        self._loop = loop

    def open(self, requests: Sequence[tuple[str, bytes]]) -> None:
        """These are about to be sent: their ids and records, with one write.

        On return all of them are in the kernel. Raises JournalFailed: none is then.
        """
        self._write_out(b"".join([frames.opened(entry_id, body) for entry_id, body in requests]))
        self._open.update(requests)

    def done(self, entry_id: str, body: bytes) -> int:
        """A request has ended, opened here or elsewhere; its number. Kept in memory while the disk does not take it."""
        number = self.last_number = self.last_number + 1
        self._end(frames.done(number, entry_id, body), entry_id)
        return number

    def drop(self, entry_id: str) -> None:
        """A request was never sent. Kept in memory like `done`."""
        self._end(frames.dropped(entry_id), entry_id)

    def continue_after(self, number: int) -> None:
        """The store has more than this journal remembers (the machine crashed): the next DONE comes after that."""
        self.last_number = max(self.last_number, number)

    def retry(self) -> bool:
        """Write what is kept in memory, if the disk takes it by now. Whether all is written."""
        if self._backlog and not self._is_closed:
            try:
                self._write_out(b"")
            except JournalFailed:
                return False  # said when it began
        return not self._backlog

    def _end(self, frame: bytes, entry_id: str) -> None:
        self._backlog.append((frame, entry_id, self.last_number))
        if self._loop is None:
            self.retry()
        elif not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._turn_ends)

    def _turn_ends(self) -> None:
        self._is_due = False
        self.retry()

    def _write_out(self, opens: bytes) -> None:
        """Write the backlog, in order, and behind it these frames, if any. Raises JournalFailed.

        With one write; but frame by frame when the last one failed, so that a disk with little room takes what it can.
        """
        backlog, is_failing = self._backlog, bool(self._failure)
        while backlog and is_failing:
            frame, entry_id, number = backlog[0]
            self._write(frame)
            self._has_written(entry_id, number)
            backlog.popleft()
        if not backlog:
            if opens:
                self._write(opens)
            return
        self._write(b"".join([frame for frame, _, _ in backlog]) + opens)
        for _, entry_id, number in backlog:
            self._has_written(entry_id, number)
        backlog.clear()

    def _has_written(self, entry_id: str, number: int) -> None:
        """The end of this entry, with or after the DONE of this number."""
        self._segment.last_number = number
        self._open.pop(entry_id, None)

    def _write(self, data: bytes) -> None:
        if self._is_closed:  # its descriptor may be somebody else's by now
            raise JournalFailed(f"the journal {self._directory} is closed")
        try:
            if self._must_rotate or self._segment.size >= self._rotate_at:
                self._rotate()
            self._segment.write(data)
        except OSError as error:
            raise self._failed(error) from error
        self._appended += 1
        if self._failure:
            log.warning("the journal %s can be written again", self._directory)
            self._failure = ""

    def _rotate(self) -> None:
        """Begin a segment with all that is open, so that earlier ones are not needed for it. Raises OSError."""
        full = self._segment
        first = frames.base(self.writer, full.last_number, self._open)
        self._segment = Segment.create(self._directory, full.index + 1, first, full.last_number)
        self._segments.append(self._segment)
        self._rotate_at = self._segment.size + self._segment_bytes
        self._must_rotate = False
        self._left.append(full)
        self._new_in.append(self._directory)

    def _failed(self, error: OSError) -> JournalFailed:
        reason = f"the journal {self._directory} cannot be written: {error.strerror or error}"
        if reason != self._failure:
            self._failure = reason
            log.error("%s; nothing is forwarded until it can", reason)
        return JournalFailed(reason)
