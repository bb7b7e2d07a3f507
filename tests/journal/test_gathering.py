"""One write a turn: what ends in one turn of the event loop is written together, in order, and never too late."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from proxy.errors import JournalFailed
from proxy.journal import Adopted, Journal, adopt
from proxy.journal.segment import Segment, segment_paths
from tests.journal.test_journal import full_disk, made, read_back


class Writes:
    """What segments are asked to write."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        real = Segment.write

        def write(segment: Segment, data: bytes) -> None:
            self.sizes.append(len(data))
            real(segment, data)

        monkeypatch.setattr(Segment, "write", write)

    def __len__(self) -> int:
        return len(self.sizes)


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Writes:
    return Writes(monkeypatch)


def gathering(directory: Path, segment_bytes: int = 1 << 20) -> Journal:
    one = made(directory, segment_bytes)
    one.gather(asyncio.get_running_loop())
    return one


def left(directory: Path, one: Journal) -> Adopted:
    one.close(remove=False)
    adopted = read_back(directory)
    adopted.journal.close(remove=False)
    return adopted


async def test_what_ends_in_one_turn_is_one_write_in_order(tmp_path: Path, writes: Writes) -> None:
    one = gathering(tmp_path)
    one.open([(entry_id, entry_id.encode()) for entry_id in ("a", "b", "c", "d")])
    before = len(writes)
    assert [one.done("b", b"B"), one.done("a", b"A")] == [1, 2]
    one.drop("c")
    assert len(writes) == before
    assert one.open_count == 4  # for what stands in the file they are still open
    await asyncio.sleep(0)
    assert len(writes) == before + 1
    assert one.open_count == 1
    await asyncio.sleep(0)
    assert len(writes) == before + 1
    adopted = left(tmp_path, one)
    assert adopted.open == {"d": b"d"}
    assert adopted.finished == [(1, "b", b"B"), (2, "a", b"A")]


async def test_several_requests_are_opened_with_one_write_and_after_what_has_ended(
    tmp_path: Path, writes: Writes
) -> None:
    one = gathering(tmp_path)
    one.open([("a", b"A")])
    one.done("a", b"end of the first")
    before = len(writes)
    one.open([("a", b"again"), ("b", b"B")])
    assert len(writes) == before + 1
    await asyncio.sleep(0)
    assert len(writes) == before + 1
    adopted = left(tmp_path, one)
    assert adopted.open == {"a": b"again", "b": b"B"}  # had the end come later, it would be that of the second
    assert adopted.finished == [(1, "a", b"end of the first")]


async def test_a_sync_brings_what_is_gathered_to_disk(tmp_path: Path, writes: Writes) -> None:
    one = gathering(tmp_path)
    one.open([("a", b"A")])
    await one.synced()
    one.done("a", b"end")
    before = len(writes)
    await one.synced()
    assert len(writes) == before + 1
    assert one._on_disk == one._appended
    one.close(remove=True)


async def test_what_is_counted_has_been_written(tmp_path: Path, writes: Writes) -> None:
    one = gathering(tmp_path)
    one.done("a", b"end")
    before = len(writes)
    one.counted()
    assert len(writes) == before + 1
    assert left(tmp_path, one).counted == 1


async def test_closing_writes_what_is_gathered_and_the_end_of_the_turn_does_no_harm(tmp_path: Path) -> None:
    one = gathering(tmp_path)
    one.open([("a", b"A")])
    one.done("a", b"end")
    adopted = left(tmp_path, one)
    assert (adopted.open, adopted.finished) == ({}, [(1, "a", b"end")])
    await asyncio.sleep(0)
    with pytest.raises(JournalFailed, match="w1 is closed"):
        one.open([("b", b"B")])
    assert one.done("b", b"too late") == 2
    await asyncio.sleep(0)


async def test_a_new_segment_begins_with_what_was_open_before_the_write(tmp_path: Path) -> None:
    one = gathering(tmp_path, segment_bytes=300)
    for turn in range(10):
        one.open([(f"{turn}-{count}", b"o" * 50) for count in range(3)])
        one.done(f"{turn}-0", b"d" * 50)
        one.drop(f"{turn}-1")
        await asyncio.sleep(0)
    assert len(segment_paths(tmp_path / "journal" / "w1")) > 3
    adopted = left(tmp_path, one)
    assert set(adopted.open) == {f"{turn}-2" for turn in range(10)}
    assert [number for number, _, _ in adopted.finished] == list(range(1, 11))
    assert adopted.is_whole


async def test_a_full_disk_keeps_what_has_ended_and_opens_none_of_several(tmp_path: Path) -> None:
    one = gathering(tmp_path)
    one.open([("a", b"a" * 100), ("b", b"b" * 100)])
    path = tmp_path / "journal" / "w1"
    with full_disk(150, path):
        one.done("a", b"A" * 100)
        with pytest.raises(JournalFailed, match="File too large"):
            one.open([("c", b"c" * 100), ("d", b"d" * 100)])
        assert one.is_failing
        assert one.open_count == 2
        one.done("b", b"B" * 100)
        await asyncio.sleep(0)
        assert one.open_count == 1  # there was room for one of those that wait
        with pytest.raises(JournalFailed):
            await one.synced()
    one.open([("c", b"c"), ("d", b"d")])
    adopted = left(tmp_path, one)
    assert set(adopted.open) == {"c", "d"}
    assert adopted.finished == [(1, "a", b"A" * 100), (2, "b", b"B" * 100)]
    assert adopted.is_whole


KILLED = """\
import asyncio, os, signal, sys
from pathlib import Path
from proxy.journal import Journal

async def main():
    one = Journal.create(Path(sys.argv[1]), "w1")
    one.gather(asyncio.get_running_loop())
    one.open([("a", b"A"), ("b", b"B"), ("c", b"C")])
    one.done("a", b"end")
    await asyncio.sleep(0)
    one.done("b", b"lost")
    {then}
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("then", "open_", "finished"),
    [
        ("", {"b", "c"}, [(1, "a", b"end")]),
        ("one.counted()", {"c"}, [(1, "a", b"end"), (2, "b", b"lost")]),
        ("one.open([('d', b'D')])", {"c", "d"}, [(1, "a", b"end"), (2, "b", b"lost")]),
    ],
)
def test_who_is_killed_loses_at_most_what_ended_in_that_turn(
    tmp_path: Path, then: str, open_: set[str], finished: Sequence[tuple[int, str, bytes]]
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", KILLED.format(then=then), str(tmp_path)], check=False, cwd=Path.cwd(), env=os.environ
    )
    assert ended.returncode == -signal.SIGKILL
    adopted = adopt(tmp_path / "w1")
    assert adopted is not None
    assert (set(adopted.open), adopted.finished) == (open_, finished)
    adopted.journal.close(remove=True)
