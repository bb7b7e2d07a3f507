"""The living journal: appends, groups on their way to disk, segments that go, and a disk that takes no more."""

import asyncio
import resource
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy.errors import JournalFailed
from proxy.journal import Adopted, Journal, adopt, journal, orphans
from proxy.journal.segment import Segment, segment_paths


def made(directory: Path, segment_bytes: int = 1 << 20) -> Journal:
    return Journal.create(directory / "journal", "w1", segment_bytes=segment_bytes)


def read_back(directory: Path) -> Adopted:
    adopted = adopt(directory / "journal" / "w1")
    assert adopted is not None
    return adopted


@contextmanager
def full_disk(bytes_left: int, path: Path) -> Iterator[None]:
    """No file may grow beyond what the journal's newest has, and a little."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    newest = segment_paths(path)[-1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (newest.stat().st_size + bytes_left, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_it_is_private_and_held_while_it_lives(tmp_path: Path) -> None:
    made_one = made(tmp_path)
    path = tmp_path / "journal" / "w1"
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()} == {0o600}
    assert orphans(tmp_path / "journal") == []
    assert adopt(path) is None
    made_one.close(remove=False)
    assert orphans(tmp_path / "journal") == [path]


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    made(tmp_path).close(remove=False)
    with pytest.raises(JournalFailed, match=r"w1 cannot be made: File exists"):
        made(tmp_path)


def test_what_was_opened_and_finished_is_read_back(tmp_path: Path) -> None:
    one = made(tmp_path)
    for entry_id in ("a", "b", "c", "d"):
        one.open([(entry_id, entry_id.encode() * 3)])
    assert [one.done("b", b"B"), one.done("a", b"A"), one.done("elsewhere", b"E")] == [1, 2, 3]
    one.drop("c")
    assert (one.open_count, one.last_number) == (1, 3)
    one.close(remove=False)
    adopted = read_back(tmp_path)
    assert adopted.open == {"d": b"ddd"}
    assert adopted.finished == [(1, "b", b"B"), (2, "a", b"A"), (3, "elsewhere", b"E")]
    assert adopted.is_whole
    assert adopted.journal.done("d", b"D") == 4
    adopted.journal.close(remove=False)
    again = read_back(tmp_path)
    assert again.open == {}
    assert again.finished[-1] == (4, "d", b"D")
    again.journal.close(remove=True)
    assert not (tmp_path / "journal" / "w1").exists()
    assert adopt(tmp_path / "journal" / "w1") is None


async def test_segments_go_when_the_store_has_confirmed_them(tmp_path: Path) -> None:
    one = made(tmp_path, segment_bytes=2000)
    path = tmp_path / "journal" / "w1"
    one.open([("long", b"a stream that lasts")])
    numbers = []
    for count in range(40):
        one.open([(f"e{count}", b"o" * 100)])
        numbers.append(one.done(f"e{count}", b"d" * 100))
    assert numbers == list(range(1, 41))
    assert len(segment_paths(path)) == 5
    assert one.disk_bytes == sum(file.stat().st_size for file in segment_paths(path))
    one.confirm(20)
    await one.synced()
    left = segment_paths(path)
    assert [file.name for file in left] == ["00000003.seg", "00000004.seg", "00000005.seg"]
    one.close(remove=False)
    adopted = read_back(tmp_path)
    assert adopted.open == {"long": b"a stream that lasts"}  # from the BASE of what is left
    assert [number for number, _, _ in adopted.finished] == list(range(adopted.finished[0][0], 41))
    assert adopted.finished[0][0] <= 21
    assert adopted.is_whole
    adopted.journal.done("long", b"end")
    adopted.journal.confirm(41)
    await adopted.journal.synced()
    assert segment_paths(path) == left[-1:]
    adopted.journal.close(remove=True)


async def test_a_segment_that_is_needed_stays_until_its_successor_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = made(tmp_path, segment_bytes=300)
    for count in range(5):
        one.open([(f"e{count}", b"o" * 100)])
        one.done(f"e{count}", b"d" * 100)

    def broken(_: Segment) -> None:
        raise OSError(5, "Input/output error")

    path = tmp_path / "journal" / "w1"
    before = segment_paths(path)
    monkeypatch.setattr(Segment, "to_disk", broken)
    one.confirm(5)
    with pytest.raises(JournalFailed, match="Input/output error"):
        await one.synced()
    assert segment_paths(path) == before
    monkeypatch.undo()
    await one.synced()
    assert segment_paths(path) == before[-1:]
    one.close(remove=True)


async def test_who_waits_at_the_same_time_shares_one_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = made(tmp_path)
    may_end, syncs = threading.Event(), []
    real = Segment.to_disk

    def slow(segment: Segment) -> None:
        syncs.append(segment.size)
        may_end.wait(10)
        real(segment)

    monkeypatch.setattr(Segment, "to_disk", slow)
    one.open([("a", b"")])
    first = [asyncio.ensure_future(one.synced()) for _ in range(20)]  # noqa: TID251
    await asyncio.sleep(0)
    one.open([("b", b"")])  # after the first sync has begun: that one does not count for it
    second = [asyncio.ensure_future(one.synced()) for _ in range(20)]  # noqa: TID251
    await asyncio.sleep(0)
    may_end.set()
    await asyncio.gather(*first, *second)
    assert len(syncs) == 2
    await one.synced()
    assert len(syncs) == 2
    one.close(remove=True)


async def test_nobody_has_to_wait_for_a_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SYNC_WITHIN", 0)
    one = made(tmp_path)
    one.open([("a", b"")])
    one.sync_soon()
    one.sync_soon()
    async with asyncio.timeout(10):
        while one._on_disk < one._appended:
            await asyncio.sleep(0.001)
    one.close(remove=True)


async def test_a_failed_sync_is_answered_by_a_new_segment_with_all_that_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What a failed fsync left out, a second one does not bring to disk."""
    one = made(tmp_path)
    one.open([("a", b"A")])

    def broken(_: Segment) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Segment, "to_disk", broken)
        with pytest.raises(JournalFailed, match=r"w1 cannot be written: Input/output error"):
            await one.synced()
    assert one.is_failing
    one.open([("b", b"B")])
    await one.synced()
    newest = segment_paths(tmp_path / "journal" / "w1")[-1]
    assert newest.name == "00000002.seg"
    for file in segment_paths(tmp_path / "journal" / "w1")[:-1]:
        file.write_bytes(b"")
    one.close(remove=False)
    assert read_back(tmp_path).open == {"a": b"A", "b": b"B"}
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


def test_a_full_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No OPEN goes through; what has ended is kept and written when the disk takes it again, before any OPEN."""
    one = made(tmp_path)
    one.open([("a", b"a" * 100)])
    one.open([("b", b"b" * 100)])
    path = tmp_path / "journal" / "w1"
    with full_disk(10, path):
        for _ in range(3):
            with pytest.raises(JournalFailed, match=r"w1 cannot be written: File too large"):
                one.open([("c", b"c" * 100)])
        assert one.is_failing
        assert one.done("a", b"A" * 100) == 1
        one.drop("b")
        assert not one.retry()
        assert one.open_count == 2  # for what stands on disk they are still open
    assert len(caplog.records) == 1
    with full_disk(150, path):  # enough for the first of the two that wait, not for a third
        with pytest.raises(JournalFailed):
            one.open([("d", b"d" * 500)])
        assert one.open_count == 0
    one.open([("e", b"E")])
    one.close(remove=False)
    adopted = read_back(tmp_path)
    assert adopted.open == {"e": b"E"}
    assert adopted.finished == [(1, "a", b"A" * 100)]
    assert adopted.is_whole


def test_a_full_disk_at_the_end_of_a_segment(tmp_path: Path) -> None:
    one = made(tmp_path, segment_bytes=400)
    one.open([("a", b"a" * 500)])
    path = tmp_path / "journal" / "w1"
    path.chmod(0o500)
    resource_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, resource_limit[1]))
    try:
        assert one.done("a", b"A") == 1
        with pytest.raises(JournalFailed):
            one.open([("b", b"")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, resource_limit)
        path.chmod(0o700)
    assert [file.name for file in segment_paths(path)] == ["00000001.seg"]
    assert one.retry()
    one.close(remove=False)
    adopted = read_back(tmp_path)
    assert (adopted.open, adopted.finished, adopted.is_whole) == ({}, [(1, "a", b"A")], True)


def test_a_journal_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("in the way")
    with pytest.raises(JournalFailed, match=r"journal/w1 cannot be made: (File exists|Not a directory)"):
        made(tmp_path)


async def test_many_open_requests_do_not_make_a_segment_each(tmp_path: Path) -> None:
    """A BASE may be larger than a segment; a segment is full by what came after it."""
    one = made(tmp_path, segment_bytes=1000)
    for count in range(50):
        one.open([(f"open {count}", b"o" * 100)])
    before = len(segment_paths(tmp_path / "journal" / "w1"))
    for count in range(10):
        one.open([(f"e{count}", b"")])
        one.done(f"e{count}", b"")
    assert len(segment_paths(tmp_path / "journal" / "w1")) - before <= 1
    one.close(remove=True)
