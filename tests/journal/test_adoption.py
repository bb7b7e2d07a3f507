"""Adoption: what a dead writer left, however it died; damage is said, and never guessed over."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from proxy.errors import JournalFailed
from proxy.journal import Adopted, Journal, adopt, frames, orphans
from proxy.journal.segment import segment_paths


def written(directory: Path, segment_bytes: int = 600) -> list[Path]:
    """Three segments: a is open throughout; b0 … b9 are opened and finished one after the other."""
    one = Journal.create(directory, "w1", segment_bytes=segment_bytes)
    one.open([("a", b"A")])
    for count in range(10):
        one.open([(f"b{count}", b"o" * 60)])
        one.done(f"b{count}", b"d" * 60)
    one.close(remove=False)
    return segment_paths(directory / "w1")


def adopted(directory: Path) -> Adopted:
    found = adopt(directory / "w1")
    assert found is not None
    return found


def numbers(found: Adopted) -> list[int]:
    return [number for number, _, _ in found.finished]


def test_every_truncation_of_the_last_segment_is_cut_and_gone_on_from(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    last = written(tmp_path / "as it was")[-1]
    data = last.read_bytes()
    for length in range(len(data)):
        copy = tmp_path / str(length)
        shutil.copytree(tmp_path / "as it was", copy)
        (copy / "w1" / last.name).write_bytes(data[:length])
        whole = list(frames.read(data[:length]))
        good = whole[-1][1] if whole else 0
        caplog.clear()
        found = adopted(copy)
        assert (f"the last {length - good} bytes" in caplog.text) == (good < length)
        before = found.journal.last_number
        assert found.is_whole
        assert found.open.pop("a") == b"A"
        assert len(found.open) in (0, 1)
        assert numbers(found) == list(range(1, found.journal.last_number + 1))
        assert found.journal.done("a", b"presumed") == found.journal.last_number == before + 1
        found.journal.close(remove=False)
        again = adopted(copy)
        assert (again.open, again.is_whole) == (found.open, True)
        assert again.finished == [*found.finished, (before + 1, "a", b"presumed")]
        again.journal.close(remove=True)


@pytest.mark.parametrize("which", [0, 1])
def test_damage_in_an_earlier_segment_is_loud_and_the_rest_is_adopted(
    which: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = written(tmp_path)
    assert len(paths) == 3
    data = paths[which].read_bytes()
    for at in range(0, len(data), 7):
        paths[which].write_bytes(data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :])
        caplog.clear()
        found = adopted(tmp_path)
        assert not found.is_whole
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        assert f"{paths[which]} is damaged" in caplog.text
        # What can be read is as it was.
        assert found.finished == [(number, f"b{number - 1}", b"d" * 60) for number in numbers(found)]
        assert found.journal.last_number == 10
        # Nobody says how those ended that were open before the damage and are not open after it.
        assert found.open.pop("a") == b"A"
        unread = set(range(1, 11)) - set(numbers(found))
        assert set(found.open) <= {f"b{number - 1}" for number in unread}
        found.journal.close(remove=False)
        paths[which].write_bytes(data)


def test_a_segment_that_is_gone_is_damage(tmp_path: Path) -> None:
    paths = written(tmp_path)
    paths[1].unlink()
    found = adopted(tmp_path)
    assert not found.is_whole
    assert found.journal.last_number == 10
    assert 0 < len(numbers(found)) < 10
    assert found.open["a"] == b"A"


def test_a_store_that_counts_further_is_followed(tmp_path: Path) -> None:
    """The machine crashed: what the store applied last had not reached the journal's disk."""
    written(tmp_path)
    found = adopted(tmp_path)
    found.journal.continue_after(12)
    assert found.journal.done("a", b"presumed") == 13
    found.journal.close(remove=False)
    again = adopted(tmp_path)
    assert numbers(again) == [*range(1, 11), 13]
    assert not again.is_whole


def test_a_writer_that_is_killed_leaves_all_that_it_appended(tmp_path: Path) -> None:
    program = f"""
        from pathlib import Path
        from proxy.journal import Journal
        journal = Journal.create(Path({str(tmp_path)!r}), "w1", segment_bytes=20_000)
        count = 0
        while True:
            journal.open([(f"e{{count}}", b"o" * 200)])
            print(f"open {{count}}", flush=True)
            journal.done(f"e{{count}}", b"d" * 200)
            print(f"done {{count}}", flush=True)
            count += 1
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = [process.stdout.readline().split() for _ in range(501)]
    assert adopt(tmp_path / "w1") is None
    process.kill()
    rest, _ = process.communicate()
    said += [line.split() for line in rest.splitlines()]
    found = adopted(tmp_path)
    finished = [int(count) for what, count in (words for words in said if len(words) == 2) if what == "done"]
    assert numbers(found)[: len(finished)] == [count + 1 for count in finished]
    assert len(numbers(found)) - len(finished) in (0, 1)  # it may have died before it said so
    assert len(found.open) in (0, 1)
    assert found.is_whole
    found.journal.close(remove=True)
    assert orphans(tmp_path) == []


def test_one_that_is_stopped_still_holds_its_journal(tmp_path: Path) -> None:
    program = f"""
        from pathlib import Path
        from proxy.journal import Journal
        Journal.create(Path({str(tmp_path)!r}), "w1").open([("a", b"A")])
        print("ready", flush=True)
        input()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys\n" + textwrap.dedent(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, signal.SIGSTOP)
    assert orphans(tmp_path) == []
    process.kill()
    process.communicate()
    # It had not kept a reference: the lock stands as long as the process, not as long as the object.
    assert adopted(tmp_path).open == {"a": b"A"}


def test_of_two_adopters_one_gets_it(tmp_path: Path) -> None:
    for _ in range(20):
        written(tmp_path, segment_bytes=1 << 20)
        barrier = threading.Barrier(4)
        found: list[Adopted | None] = []

        def take(barrier: threading.Barrier, found: list[Adopted | None]) -> None:
            barrier.wait()
            one = adopt(tmp_path / "w1")
            if one is not None:
                one.journal.close(remove=True)
            found.append(one)

        threads = [threading.Thread(target=take, args=(barrier, found)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(one is not None for one in found) == 1
        assert orphans(tmp_path) == []


def test_an_empty_journal(tmp_path: Path) -> None:
    Journal.create(tmp_path, "w1").close(remove=False)
    [only] = segment_paths(tmp_path / "w1")
    only.write_bytes(b"")
    found = adopted(tmp_path)
    assert (found.open, found.finished, found.is_whole, found.writer) == ({}, [], True, "w1")
    found.journal.close(remove=True)
    assert list(tmp_path.iterdir()) == []


def test_no_journals_at_all(tmp_path: Path) -> None:
    assert orphans(tmp_path / "journal") == []
    assert adopt(tmp_path / "journal" / "w1") is None


def test_a_journal_under_another_name_is_not_taken(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "w1").rename(tmp_path / "w2")
    with pytest.raises(JournalFailed, match="belongs to the journal of w1: move it back"):
        adopt(tmp_path / "w2")
    assert orphans(tmp_path) == [tmp_path / "w2"]  # it was let go of


def test_a_journal_of_another_version_is_left_as_it_is(tmp_path: Path) -> None:
    last = written(tmp_path)[-1]
    last.write_bytes(last.read_bytes() + frames._frame(b"N", b"new"))
    before = last.read_bytes()
    with pytest.raises(JournalFailed, match="written by another version of taximeter"):
        adopt(tmp_path / "w1")
    assert last.read_bytes() == before
