"""Counting happens elsewhere than the event loop, and whoever starts a count gets one reading, whatever happens."""

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from proxy.metering import Reading, Uncounted
from proxy.metering.encodings import load
from proxy.metering.estimate import CountTexts
from proxy.server.counting import Counting
from rates.usage import Usage


class Text:
    """What a reply wrote; `then` is done while it is counted exactly."""

    def __init__(self, text: str = "four", then: Callable[[], object] = lambda: None) -> None:
        self.text = text
        self.then = then
        self.threads: list[int] = []

    def output_tokens(self, count: CountTexts) -> int:
        self.threads.append(threading.get_ident())
        if threading.current_thread() is not threading.main_thread():
            self.then()
        return count([self.text])


def uncounted(written: Text, body: bytes = b'{"messages": []}') -> Uncounted:
    return Uncounted(
        reading=Reading("estimated", "no_usage", "gpt-4o", Usage(), None, None),
        so_far=False,
        endpoint="chat/completions",
        rough_prompt=77,
        request_body=body,
        written=written,
    )


async def test_on_a_thread_of_its_own() -> None:
    got: list[Reading] = []
    counting, written = Counting(), Text()
    threads: list[int] = []

    def use(reading: Reading) -> None:
        threads.append(threading.get_ident())
        got.append(reading)

    await asyncio.gather(*(counting.start(uncounted(written), None, use) for _ in range(3)))
    await counting.close(1)
    assert [reading.usage.as_dict() for reading in got] == [{"input": 3, "output": 1}] * 3
    assert got[0].encoding == "o200k_base"
    assert set(threads) == {threading.get_ident()}
    assert len(set(written.threads)) == 1  # they take turns
    assert threading.get_ident() not in written.threads


async def test_the_event_loop_goes_on_meanwhile() -> None:
    load("o200k_base")
    text = "The meter runs while you ride, 走っています。" * 100_000  # some 5 MB
    body = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
    counting = Counting()
    task = counting.start(uncounted(Text(text), body), None, lambda _: None)
    longest, last = 0.0, time.perf_counter()
    while not task.done():
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    await counting.close(1)
    assert longest < 0.25  # under 50 ms on an idle machine


async def test_the_task_may_lose_who_waits_for_it() -> None:
    got: list[Reading] = []
    counting = Counting()
    go_on = threading.Event()
    task = counting.start(uncounted(Text(then=go_on.wait)), None, got.append)

    async def waits() -> None:
        await asyncio.wait((task,))

    waiting = asyncio.get_running_loop().create_task(waits())
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.sleep(0.01)
    assert not got
    go_on.set()
    await counting.close(5)
    assert got[0].encoding == "o200k_base"


async def test_at_the_end_the_rest_is_counted_roughly() -> None:
    got: list[Reading] = []
    counting = Counting()
    go_on = threading.Event()
    for _ in range(3):
        counting.start(uncounted(Text(then=go_on.wait)), None, got.append)
    await counting.close(0.05)
    go_on.set()
    assert [(reading.encoding, reading.usage.input) for reading in got] == [(None, 77)] * 3


async def test_more_than_may_wait_is_counted_roughly() -> None:
    got: list[Reading] = []
    counting = Counting(most_waiting=100)
    for _ in range(3):
        counting.start(uncounted(Text(), b'{"messages": []' + b" " * 30 + b"}"), None, got.append)
    await counting.close(5)
    assert sorted(str(reading.encoding) for reading in got) == ["None", "o200k_base", "o200k_base"]


async def test_a_fault_is_a_rough_count_and_said(caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> None:
        raise MemoryError("a table")

    got: list[Reading] = []
    counting = Counting()
    with caplog.at_level(logging.ERROR):
        await counting.start(uncounted(Text(then=fails)), None, got.append)
    await counting.close(1)
    assert (got[0].encoding, got[0].usage.input) == (None, 77)
    assert "internal fault in counting" in caplog.text


async def test_the_model_that_was_asked_decides() -> None:
    got: list[Reading] = []
    counting = Counting()
    given = uncounted(Text())
    await counting.start(
        replace(given, reading=msgspec.structs.replace(given.reading, model=None)), "gpt-4", got.append
    )
    await counting.close(1)
    assert got[0].encoding == "cl100k_base"


BODY = b'{"model": "gpt-4o", "messages": [{"role": "user", "content": "How far is it?"}]}'


async def test_a_prompt_is_counted_as_its_model_counts() -> None:
    counting = Counting()
    try:
        assert await counting.prompt_tokens("chat/completions", BODY, "gpt-4o") == 12
        assert await counting.prompt_tokens("chat/completions", b"", "gpt-4o") is None
        assert await counting.prompt_tokens("chat/completions", b"[]", "gpt-4o") is None
    finally:
        await counting.close(1)


async def test_too_much_at_a_time_is_not_counted() -> None:
    counting = Counting(most_waiting=len(BODY))
    try:
        both = await asyncio.gather(*(counting.prompt_tokens("chat/completions", BODY, None) for _ in range(2)))
        assert both == [12, None]
        assert await counting.prompt_tokens("chat/completions", BODY, None) == 12
    finally:
        await counting.close(1)
