"""Who asks for a reload hears what came of its own asking, or why nobody answers."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

from proxy.errors import TaximeterError, UsageError
from proxy.server.reloading import Outcome, ask, asked_word, say
from proxy.store import DataDir


@contextmanager
def serving(directory: Path, outcome: Outcome | None) -> Iterator[list[str]]:
    """This process as the `serve` of the directory: it answers SIGHUP. Yields the words that were asked with."""
    words: list[str] = []

    def hang_up(_number: int, _frame: FrameType | None) -> None:
        word = asked_word(directory)
        assert word is not None
        words.append(word)
        if outcome is not None:
            say(directory, word, outcome)

    before = signal.signal(signal.SIGHUP, hang_up)
    try:
        with DataDir(directory).claim():
            yield words
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("outcome", [Outcome(changes=("budget b: added",)), Outcome(problem="nothing was changed: x")])
def test_the_answer_is_the_one_to_this_question(tmp_path: Path, outcome: Outcome) -> None:
    say(DataDir(tmp_path).made(), "another word", Outcome(problem="of another question"))
    with serving(tmp_path, outcome) as words:
        assert ask(tmp_path, 10) == outcome
    assert len(words) == 1
    assert (tmp_path / "reload.said").stat().st_mode & 0o077 == 0


def test_who_says_nothing_is_named(tmp_path: Path) -> None:
    with serving(tmp_path, None), pytest.raises(TaximeterError, match=r"did not say within 0\.2 s") as silent:
        ask(tmp_path, 0.2)
    assert str(tmp_path) in str(silent.value)


def test_where_nobody_serves_nobody_is_signalled(tmp_path: Path) -> None:
    with serving(tmp_path, None):
        pass  # it has ended, and its process id is still in the file
    with pytest.raises(UsageError, match="no taximeter serves"):
        ask(tmp_path, 1)


def test_two_who_ask_at_once_take_turns(tmp_path: Path) -> None:
    found: list[Outcome] = []
    with serving(tmp_path, Outcome()) as words:
        other = threading.Thread(target=lambda: found.append(ask(tmp_path, 10)))
        other.start()
        found.append(ask(tmp_path, 10))
        other.join()
    assert found == [Outcome(), Outcome()]
    assert len(set(words)) == 2
