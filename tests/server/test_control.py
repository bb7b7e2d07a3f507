"""Orders arrive whole, however the pipe cuts them, and a key in them does not show."""

import asyncio
import os
from pathlib import Path

import pytest
import uvloop

from proxy.config import Config, Secret
from proxy.server.control import READY, REFUSED, Answers, End, Frames, Orders, applied, frame, read_frame, tell


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
    answers = await Answers.open(heard)
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


@pytest.mark.parametrize("end", ["of a worker", "of its supervisor"])
def test_a_pipe_is_closed_once(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed twice, it took whatever another thread had opened meanwhile: the supervisor aborted with its workers."""
    opened: list[int] = []

    def close(of: End) -> None:
        """Another thread is as quick as that. It gets the number that was free."""
        opened.append(os.open(os.devnull, os.O_RDONLY))
        real(of)

    async def use() -> None:
        heard, told = os.pipe()
        loop = asyncio.get_running_loop()
        if end == "of a worker":
            answers = await Answers.open(heard)
            os.close(told)
            await answers.ended.wait()
        else:
            transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, End(told))
            transport.close()
        async with asyncio.timeout(5):
            while not opened:
                await asyncio.sleep(0.01)
        assert opened == [heard if end == "of a worker" else told]
        os.fstat(opened[0])  # else OSError: it was closed
        os.close(opened[0])
        if end == "of its supervisor":
            os.close(heard)

    real = End.close
    monkeypatch.setattr(End, "close", close)
    uvloop.run(use())


def test_who_is_told_may_be_gone() -> None:
    heard, told = os.pipe()
    os.close(heard)
    tell(told, READY)
    os.close(told)
