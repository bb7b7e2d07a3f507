"""The living journal: appends in microseconds, reaches the disk in groups, and lets go of what the store has confirmed.

An append that returns is in the kernel: it outlives this process. `synced` says that it outlives the machine. When the
disk does not take it, no OPEN is accepted (nothing may be forwarded), while DONE and DROP are kept in memory and
written before the next OPEN.
"""

import asyncio
import errno
import logging
import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from proxy.errors import JournalFailed
from proxy.journal import frames
from proxy.journal.segment import COUNTED, LOCK, Counted, Segment, remove_files, sync_directory, take_lock

SEGMENT_BYTES = 8 << 20
SYNC_WITHIN = 0.05  # seconds, for those who do not wait

log = logging.getLogger(__name__)


class Journal:
    """What one writer has opened and finished. It belongs to one thread; `synced` and `confirm` to its event loop."""

    def __init__(
        self,
        directory: Path,
        lock: int,
        counted: Counted,
        segments: Sequence[Segment],
        *,
        last_number: int,
        open_: dict[str, bytes],
        segment_bytes: int = SEGMENT_BYTES,
        new_in: Sequence[Path] = (),
    ) -> None:
        """Owns `lock`, `counted` and the segments from now on; the last segment goes on being written."""
        self.writer = directory.name
        self.last_number = last_number
        """The number of the last DONE."""
        self._directory = directory
        self._lock = lock
        self._counted = counted
        self._open = open_  # what is open on disk: what waits in the backlog still counts
        self._backlog: deque[tuple[bytes, str, int]] = deque()  # frames with their entry's id and the number after them
        self._segment_bytes = segment_bytes
        self._segments = deque(segments)
        self._segment = segments[-1]
        self._rotate_at = self._segment.size + segment_bytes
        self._must_rotate = False
        self._failure = ""
        self._is_closed = False

        self._syncing: ThreadPoolExecutor | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._under_way: asyncio.Future[JournalFailed | None] | None = None  # the sync that runs
        self._next: asyncio.Future[JournalFailed | None] | None = None  # the one after it, if somebody wants it
        self._appended = 1  # frames; it has begun with one that is not on disk
        self._on_disk = 0
        self._target = 0  # of the sync under way
        self._left = list(segments)[:-1]  # segments that are full, but not yet known to be on disk
        self._new_in = list(new_in)  # directories with names that may not be on disk
        self._going: list[Path] = []

    @classmethod
    def create(cls, directory: Path, writer: str, *, segment_bytes: int = SEGMENT_BYTES) -> Self:
        """A new journal below `directory`. Raises JournalFailed."""
        path = directory / writer
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.mkdir(mode=0o700)
            lock = take_lock(path, is_new=True)
            if lock is None:
                raise JournalFailed(f"the journal {path} was taken away while it was being made")
            try:
                counted = Counted(path)
                segment = Segment.create(path, 1, frames.base(writer, 0, {}), 0)
            except OSError:
                os.close(lock)
                raise
        except OSError as error:
            raise JournalFailed(f"the journal {path} cannot be made: {error.strerror}") from error
        return cls(
            path,
            lock,
            counted,
            [segment],
            last_number=0,
            open_={},
            segment_bytes=segment_bytes,
            new_in=(path, directory, directory.parent),
        )

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

    def open(self, entry_id: str, body: bytes) -> None:
        """A request is about to be sent. On return the record is in the kernel. Raises JournalFailed."""
        self._catch_up()
        self._write(frames.opened(entry_id, body))
        self._open[entry_id] = body

    def done(self, entry_id: str, body: bytes) -> int:
        """A request has ended, opened here or elsewhere; its number. Kept in memory while the disk does not take it."""
        self.last_number += 1
        self._end(frames.done(self.last_number, entry_id, body), entry_id)
        return self.last_number

    def drop(self, entry_id: str) -> None:
        """A request was never sent. Kept in memory like `done`."""
        self._end(frames.dropped(entry_id), entry_id)

    def counted(self) -> None:
        """All DONEs so far stand in the metrics: whoever adopts this journal counts only later ones."""
        if not self._is_closed:
            self._counted.number = self.last_number

    def continue_after(self, number: int) -> None:
        """The store has more than this journal remembers (the machine crashed): the next DONE comes after that."""
        self.last_number = max(self.last_number, number)

    def retry(self) -> bool:
        """Write what is kept in memory, if the disk takes it by now. Whether all is written."""
        try:
            self._catch_up()
        except JournalFailed:
            return False  # said when it began
        return True

    def _end(self, frame: bytes, entry_id: str) -> None:
        self._backlog.append((frame, entry_id, self.last_number))
        self.retry()

    def _catch_up(self) -> None:
        """Write the backlog, in order. Raises JournalFailed."""
        while self._backlog:
            frame, entry_id, number = self._backlog[0]
            self._write(frame)
            self._segment.last_number = number
            self._open.pop(entry_id, None)
            self._backlog.popleft()

    def _write(self, frame: bytes) -> None:
        try:
            if self._must_rotate or self._segment.size >= self._rotate_at:
                self._rotate()
            self._segment.write(frame)
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

    async def synced(self) -> None:
        """All that was appended so far is on disk. Who waits at the same time shares one sync. Raises JournalFailed."""
        if self._is_closed or self._backlog:
            raise JournalFailed(self._failure or f"the journal {self._directory} is closed")
        if self._on_disk == self._appended:
            return
        waiter = self._under_way
        if waiter is None or self._target < self._appended:
            waiter = self._sync()
        if (failed := await asyncio.shield(waiter)) is not None:
            raise failed

    def sync_soon(self) -> None:
        """What was appended so far is on disk within 50 ms, if the disk can; nobody waits."""
        if self._timer is None and self._on_disk < self._appended and not self._is_closed:
            self._timer = asyncio.get_running_loop().call_later(SYNC_WITHIN, self._sync)

    def confirm(self, number: int) -> None:
        """The store will not lose the DONEs up to this one. Segments without others go, once the next is on disk."""
        before = len(self._going)
        while len(self._segments) > 1 and self._segments[0].last_number <= number:
            self._going.append(self._segments.popleft().path)
        if len(self._going) > before and not self._is_closed:
            self._sync()

    def _sync(self) -> "asyncio.Future[JournalFailed | None]":
        """The sync of all that was appended so far: it is started, or follows the one that is under way."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._under_way is not None:
            self._next = self._next or loop.create_future()
            return self._next
        waiter = self._under_way = self._next or loop.create_future()
        self._next = None
        if self._syncing is None:
            self._syncing = ThreadPoolExecutor(1, thread_name_prefix="journal")
        left, new_in, going = self._left, self._new_in, self._going
        self._left, self._new_in, self._going = [], [], []
        target = self._target = self._appended

        def ended(future: "asyncio.Future[None]") -> None:
            self._under_way = None
            error = None if future.cancelled() else future.exception()
            if error is None:
                self._on_disk = target
                waiter.set_result(None)
            else:
                failed = self._not_on_disk(error)
                self._left[:0], self._new_in[:0], self._going[:0] = left, new_in, going
                waiter.set_result(failed)
            if self._next is not None and not self._is_closed:
                self._sync()

        work = loop.run_in_executor(self._syncing, _to_disk, [*left, self._segment], new_in, left, going)
        work.add_done_callback(ended)
        return waiter

    def _not_on_disk(self, error: BaseException) -> JournalFailed:
        """What was written may be gone if the machine stops now. A new segment says again what is open."""
        if not isinstance(error, OSError):
            log.error("internal fault in a journal's sync", exc_info=error)
            error = OSError(errno.EIO, str(error))
        self._must_rotate = True
        return self._failed(error)

    def close(self, *, remove: bool) -> None:
        """Let go of it. `remove`: the store has all of it for good. Waits for the disk."""
        if self._is_closed:
            return
        if not remove and not self.retry():
            log.error("%d records of the journal %s are lost: %s", len(self._backlog), self._directory, self._failure)
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._syncing is not None:
            self._syncing.shutdown()
        left = [*self._left, self._segment]
        try:
            _to_disk([] if remove else left, [] if remove else self._new_in, left, self._going)
        except OSError as error:
            self._failed(error)
        if self._next is not None:
            self._next.set_result(JournalFailed(f"the journal {self._directory} is closed"))
        if remove:
            remove_files([segment.path for segment in self._segments])
            remove_files([self._directory / COUNTED, self._directory / LOCK])
            try:
                self._directory.rmdir()
            except OSError as error:
                log.error("%s cannot be removed: %s", self._directory, error.strerror)  # noqa: TRY400
        self._counted.close()
        os.close(self._lock)


def _to_disk(
    segments: Sequence[Segment], new_in: Sequence[Path], full: Sequence[Segment], going: Sequence[Path]
) -> None:
    """Runs on a thread. Raises OSError. The last step removes files, when all that replaces them is on disk."""
    for segment in segments:
        segment.to_disk()
    for directory in dict.fromkeys(new_in):
        sync_directory(directory)
    for segment in full:
        segment.close()
    remove_files(going)
