"""The living journal: appends in microseconds, reaches the disk in groups, and lets go of what the store has confirmed.

An OPEN that returns is in the kernel (see `appending`). `synced` says that it is on disk: it outlives the machine.
"""

import asyncio
import errno
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from proxy.errors import JournalFailed
from proxy.journal import frames
from proxy.journal.appending import Appending
from proxy.journal.segment import COUNTED, LOCK, Counted, Segment, remove_files, sync_directory, take_lock

SEGMENT_BYTES = 8 << 20
SYNC_WITHIN = 0.025  # seconds, for those who do not wait

log = logging.getLogger(__name__)


class Journal(Appending):
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
        super().__init__(directory, segments, last_number=last_number, open_=open_, segment_bytes=segment_bytes)
        self._lock = lock
        self._counted = counted
        self._new_in = list(new_in)

        self._disk: ThreadPoolExecutor | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._under_way: asyncio.Future[JournalFailed | None] | None = None  # the sync that runs
        self._next: asyncio.Future[JournalFailed | None] | None = None  # the one after it, if somebody wants it
        self._on_disk = 0
        self._target = 0  # of the sync under way
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

    def counted(self) -> None:
        """All DONEs so far stand in the metrics: whoever adopts this journal counts only later ones."""
        if not self._is_closed:
            self.retry()  # a number that is counted stands in the kernel first, unless the disk is full
            self._counted.number = self.last_number

    async def synced(self) -> None:
        """All that was appended so far is on disk. Who waits at the same time shares one sync. Raises JournalFailed."""
        if self._is_closed or not self.retry():
            raise JournalFailed(self._failure or f"the journal {self._directory} is closed")
        if self._on_disk == self._appended:
            return
        waiter = self._under_way
        if waiter is None or self._target < self._appended:
            waiter = self._sync()
        if (failed := await asyncio.shield(waiter)) is not None:
            raise failed

    def sync_soon(self) -> None:
        """What was appended so far is on disk within 25 ms, if the disk can; nobody waits."""
        if self._timer is None and (self._on_disk < self._appended or self._backlog) and not self._is_closed:
            loop = self._loop or asyncio.get_running_loop()  # that costs a system call, which a request need not pay
            self._timer = loop.call_later(SYNC_WITHIN, self._sync)

    def confirm(self, number: int) -> None:
        """The store will not lose the DONEs up to this one. Segments without others go, once the next is on disk."""
        before = len(self._going)
        while len(self._segments) > 1 and self._segments[0].last_number <= number:
            self._going.append(self._segments.popleft().path)
        if len(self._going) > before and not self._is_closed:
            self._sync()

    def _sync(self) -> "asyncio.Future[JournalFailed | None]":
        """The sync of all that was appended so far: it is started, or follows the one that is under way."""
        loop = self._loop or asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.retry()
        if self._under_way is not None:
            self._next = self._next or loop.create_future()
            return self._next
        waiter = self._under_way = self._next or loop.create_future()
        self._next = None
        if self._disk is None:
            self._disk = ThreadPoolExecutor(1, thread_name_prefix="journal")
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

        work = loop.run_in_executor(self._disk, _to_disk, [*left, self._segment], new_in, left, going)
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
        if self._disk is not None:
            self._disk.shutdown()
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
