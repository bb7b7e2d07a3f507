"""Orders arrive whole, however the pipe cuts them, and a key in them does not show."""

import os
from pathlib import Path

import pytest

from proxy.config import Config, Secret
from proxy.server.control import READY, REFUSED, Answers, Frames, Orders, applied, frame, read_frame, tell


def orders(slot: int) -> Orders:
    return Orders(Config(data_dir=Path("/data"), upstream_key=Secret("sk-1")), "unix:///s", slot)


@pytest.mark.parametrize("size", [1, 3, 7, 10_000])
def test_frames_come_out_as_they_went_in_at_any_split(size: int) -> None:
    data = frame(orders(0)) + frame(orders(1))
    frames = Frames()

    found = [each for start in range(0, len(data), size) for each in frames.feed(data[start : start + size])]

    assert found == [orders(0), orders(1)]
    assert found[0].config.upstream_key is not None
    assert found[0].config.upstream_key.reveal() == "sk-1"


def test_reading_one_frame_leaves_the_next_in_the_pipe() -> None:
    read, write = os.pipe()
    os.write(write, frame(orders(0)) + frame(orders(1)))
    os.close(write)

    assert read_frame(read) == orders(0)
    assert read_frame(read) == orders(1)
    assert read_frame(read) is None
    os.close(read)


def test_a_key_does_not_show_in_orders() -> None:
    assert "sk-1" not in repr(orders(0))


async def test_answers_are_heard_whole_and_in_any_order() -> None:
    heard, told = os.pipe()
    answers = await Answers.open(os.fdopen(heard, "rb"))
    os.write(told, READY + b"\nappl")
    assert await answers.first_of(READY, seconds=5) == READY
    assert await answers.first_of(applied(1), seconds=0.05) is None
    os.write(told, b"ied 1\n")
    tell(told, REFUSED + applied(2))
    assert await answers.first_of(applied(2), REFUSED + applied(2), seconds=5) == REFUSED + applied(2)
    assert await answers.first_of(applied(1), seconds=5) == applied(1)
    os.close(told)
    assert await answers.first_of(applied(3), seconds=5) is None  # at once: its worker has gone
    assert answers.ended.is_set()


def test_who_is_told_may_be_gone() -> None:
    heard, told = os.pipe()
    os.close(heard)
    tell(told, READY)
    os.close(told)
