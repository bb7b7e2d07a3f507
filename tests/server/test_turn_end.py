"""Within a turn of the event loop: who waits for a first byte goes before who reads on, and nothing changes its order."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from proxy.server.connection import ClientConnection
from proxy.server.exchange import MAX_BEHIND, Exchange
from proxy.server.turn_end import TurnEnd
from proxy.upstream.connection import Connection
from tests.server.worker_path import EVENT, REPLY, USAGE, NoStore, WorkerPath, chunk, reply, request

STREAM = b', "stream": true, "stream_options": {"include_usage": true}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
WORD = chunk(EVENT % (b'{"index":0,"delta":{"content":"hi"}}', b'"usage":null'))
LAST_WORD = chunk(EVENT % (b'{"index":0,"delta":{"content":"!"}}', b'"usage":null'))
USED = chunk(EVENT % (b"", USAGE))
DONE = chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


class AheadStore(NoStore):
    """Money is set aside ahead for every stream."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.settled: list[Any] = []
        self.released: list[str] = []

    def hold_ahead(self, opened: object, accounts: object) -> bool:
        return True

    def begin(self, entry_ids: Any) -> None:
        self.begun.append(len(entry_ids))

    def release(self, entry_id: str) -> None:
        self.released.append(entry_id)

    def settle(self, line: object, accounts: object) -> None:
        self.settled.append(line)


@pytest.fixture
async def store() -> AheadStore:
    return AheadStore()


@pytest.fixture
async def path(tmp_path: Path, store: AheadStore) -> AsyncIterator[WorkerPath]:
    """A stream flows: its head and its first word were relayed."""
    path = WorkerPath(asyncio.get_running_loop(), tmp_path, store)
    await path.warm(request(), reply())
    store.begun.clear()
    store.settled.clear()
    path.from_client.data_received(request(STREAM))
    path.from_upstream.data_received(HEAD + WORD)
    assert path.client.taken().endswith(b"\r\n\r\n" + WORD)
    path.upstream.taken()
    yield path
    path.close()


def the_exchange(path: WorkerPath) -> Exchange:
    return exchange_of(path.from_client)


def exchange_of(client: ClientConnection) -> Exchange:
    assert client._request is not None
    exchange = client._request.serving
    assert isinstance(exchange, Exchange)
    return exchange


def broken(*_: object, **__: object) -> Any:
    raise ValueError("it is broken")


def feed(connection: Connection, *pieces: bytes) -> None:
    for piece in pieces:
        connection.data_received(piece)


async def settled(store: AheadStore, number: int) -> None:
    """What the upstream did not say is counted on a thread."""
    async with asyncio.timeout(10):
        while len(store.settled) < number:
            await asyncio.sleep(0.005)
    assert len(store.settled) == number


async def test_a_request_and_a_first_word_go_before_the_next_word_of_a_stream(path: WorkerPath) -> None:
    from_upstream, another = path.another_upstream(), path.another_client()

    path.from_upstream.data_received(LAST_WORD)
    another.data_received(request(STREAM))
    assert path.upstream.taken().startswith(b"POST ")
    from_upstream.data_received(HEAD + WORD)

    first = path.client.taken()
    assert first.startswith(b"HTTP/1.1 200 OK\r\n")
    assert first.endswith(WORD)
    await asyncio.sleep(0)
    assert path.client.taken() == LAST_WORD


async def test_the_first_stream_of_a_turn_is_sent_at_once_and_the_others_together(
    path: WorkerPath, store: AheadStore
) -> None:
    store.begun.clear()
    for _ in range(3):
        path.another_upstream()

    for _ in range(3):
        path.another_client().data_received(request(STREAM))

    assert store.begun == [1]
    await asyncio.sleep(0)
    assert store.begun == [1, 2]
    assert path.upstream.taken().count(b"POST ") == 3


async def test_what_a_turn_brings_of_a_stream_keeps_its_order(path: WorkerPath, store: AheadStore) -> None:
    feed(path.from_upstream, LAST_WORD, USED, DONE)
    assert path.client.taken() == b""
    assert not store.settled

    await asyncio.sleep(0)

    assert path.client.taken() == LAST_WORD + USED + DONE
    assert len(store.settled) == 1


async def test_what_a_turn_brings_of_a_stream_goes_out_in_one_write(path: WorkerPath) -> None:
    feed(path.from_upstream, LAST_WORD, WORD)
    await asyncio.sleep(0)
    assert path.client.written == [LAST_WORD + WORD]
    path.client.taken()

    feed(path.from_upstream, USED, DONE)
    await asyncio.sleep(0)
    assert path.client.written == [USED + DONE]


async def test_the_last_byte_of_a_stream_waits_for_no_reading(path: WorkerPath, store: AheadStore) -> None:
    settled_by_then: list[int] = []
    path.from_client.write = lambda _: settled_by_then.append(len(store.settled))

    feed(path.from_upstream, USED, DONE)
    await asyncio.sleep(0)

    assert settled_by_then == [0]
    assert len(store.settled) == 1


async def test_the_connection_is_free_for_the_next_stream_at_once(path: WorkerPath, store: AheadStore) -> None:
    feed(path.from_upstream, LAST_WORD, USED, DONE)
    path.another_client().data_received(request(STREAM))
    path.from_upstream.data_received(HEAD + WORD)
    assert path.client.taken().endswith(b"\r\n\r\n" + WORD)

    await asyncio.sleep(0)

    assert path.client.taken() == LAST_WORD + USED + DONE
    assert len(store.settled) == 1
    feed(path.from_upstream, USED, DONE)
    await asyncio.sleep(0)
    assert len(store.settled) == 2


async def test_a_client_that_is_full_holds_up_its_own_upstream_alone(path: WorkerPath) -> None:
    write = path.from_client.write

    def fills(data: bytes) -> None:
        write(data)
        path.from_client.pause_writing()

    path.from_client.write = fills
    path.from_upstream.data_received(LAST_WORD)
    await asyncio.sleep(0)
    assert path.upstream.reads == [False]
    path.from_client.resume_writing()
    assert path.upstream.reads == [False, True]

    feed(path.from_upstream, USED, DONE)
    path.another_client().data_received(request(STREAM))  # on the connection that is free again
    await asyncio.sleep(0)

    assert path.client.taken() == LAST_WORD + USED + DONE
    assert path.upstream.reads == [False, True]


async def test_a_large_piece_is_not_kept(path: WorkerPath) -> None:
    large = chunk(EVENT % (b'{"index":0,"delta":{"content":"%b"}}' % (b"x" * MAX_BEHIND), b'"usage":null'))
    path.from_upstream.data_received(LAST_WORD)

    path.from_upstream.data_received(large)

    assert path.client.taken() == LAST_WORD + large
    path.from_upstream.data_received(WORD)
    await asyncio.sleep(0)
    assert path.client.taken() == WORD


async def test_who_leaves_in_the_same_turn_has_what_came_counted(path: WorkerPath, store: AheadStore) -> None:
    path.from_upstream.data_received(USED)

    path.from_client.connection_lost(None)

    [line] = store.settled
    assert '"status":"reported"' in line.text  # by the upstream: no estimate
    assert '"usage":{"input":8,"output":1}' in line.text
    await asyncio.sleep(0)
    assert len(store.settled) == 1


async def test_who_leaves_when_all_has_come_is_settled_once(path: WorkerPath, store: AheadStore) -> None:
    feed(path.from_upstream, USED, DONE)

    path.from_client.connection_lost(None)
    await asyncio.sleep(0)

    assert len(store.settled) == 1


async def test_what_came_before_a_break_is_relayed(path: WorkerPath, store: AheadStore) -> None:
    path.from_upstream.data_received(LAST_WORD)

    path.from_upstream.connection_lost(None)

    assert path.client.taken() == LAST_WORD
    await settled(store, 1)
    assert path.client.taken() == b""


async def test_the_end_of_the_worker_and_of_a_lifetime_count_what_came(path: WorkerPath, store: AheadStore) -> None:
    feed(path.from_upstream, USED, DONE)

    the_exchange(path).expire()

    assert path.client.taken() == USED + DONE
    assert len(store.settled) == 1
    await asyncio.sleep(0)
    path.from_client.data_received(request(STREAM))
    path.from_upstream.data_received(HEAD + WORD)
    path.client.taken()
    feed(path.from_upstream, USED, DONE)
    the_exchange(path).cut()
    assert path.client.taken() == USED + DONE
    assert len(store.settled) == 2


async def test_a_fault_in_relaying_ends_that_stream_alone(
    path: WorkerPath, store: AheadStore, caplog: pytest.LogCaptureFixture
) -> None:
    exchange: Any = the_exchange(path)
    from_upstream, another = path.another_upstream(), path.another_client()
    another.data_received(request(STREAM))
    from_upstream.data_received(HEAD + WORD)
    path.client.taken()

    exchange._feed = broken
    path.from_upstream.data_received(WORD)
    from_upstream.data_received(LAST_WORD)
    await asyncio.sleep(0)

    assert path.client.taken() == LAST_WORD
    assert "internal fault in relaying a stream" in caplog.text
    await settled(store, 1)
    feed(from_upstream, USED, DONE)
    await asyncio.sleep(0)
    assert path.client.taken() == USED + DONE
    assert len(store.settled) == 2


async def test_a_stream_whose_reading_fails_stays_open_in_the_journal(
    path: WorkerPath, store: AheadStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = the_exchange(path)
    monkeypatch.setattr(path.desk.counting, "start", broken)

    path.from_upstream.data_received(DONE)
    await asyncio.sleep(0)

    assert path.client.taken() == DONE
    assert "internal fault in reading an answer" in caplog.text
    assert exchange.is_over
    assert (store.settled, store.released) == ([], [])  # its hold stays, and whoever adopts the journal presumes it
    path.from_client.data_received(request(STREAM))
    feed(path.from_upstream, HEAD + WORD, USED, DONE)
    await asyncio.sleep(0)
    assert len(store.settled) == 1


@pytest.mark.parametrize("end", ["client left", "broken", "too slow"])
async def test_so_does_one_that_did_not_come_to_its_end(
    path: WorkerPath, store: AheadStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    exchange = the_exchange(path)
    monkeypatch.setattr(path.desk.counting, "start", broken)

    if end == "client left":
        path.from_client.connection_lost(None)
    elif end == "broken":
        path.from_upstream.connection_lost(None)
    else:
        exchange.expire()

    assert "internal fault in reading an answer" in caplog.text
    assert exchange.is_over
    assert (store.settled, store.released) == ([], [])


async def test_a_reply_whose_reading_fails_reaches_its_client_and_stays_open_in_the_journal(
    path: WorkerPath, store: AheadStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_upstream, client = path.another_upstream(), path.another_client()
    client.data_received(request())
    exchange = exchange_of(client)
    monkeypatch.setattr(path.desk.counting, "start", broken)
    uncounted = REPLY.replace(b"," + USAGE, b"")

    from_upstream.data_received(reply(uncounted))

    head, _, body = path.client.taken().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"x-taximeter-cost-usd" not in head
    assert body == uncounted
    assert "internal fault in reading an answer" in caplog.text
    assert exchange.is_over
    assert (store.settled, store.released) == ([], [])


async def test_a_fault_in_writing_a_reply_breaks_it_off_and_its_reading_stands(
    path: WorkerPath, store: AheadStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []
    from_upstream, client = path.another_upstream(), path.another_client()
    client.data_received(request())
    exchange = exchange_of(client)
    monkeypatch.setattr(client, "write", broken)
    monkeypatch.setattr(path.client, "close", lambda: closed.append(True))

    from_upstream.data_received(reply())

    assert closed == [True]
    assert "internal fault in writing a reply" in caplog.text
    [line] = store.settled
    assert '"status":"reported"' in line.text
    assert exchange.is_over


async def test_even_a_fault_that_cannot_be_answered_is_its_own(caplog: pytest.LogCaptureFixture) -> None:
    relayed = []

    class Stream:
        def __init__(self, fault: Exception | None) -> None:
            self._fault = fault

        def catch_up(self) -> None:
            if self._fault is not None:
                raise self._fault
            relayed.append(self)

    turn_end = TurnEnd(asyncio.get_running_loop())
    good = Stream(None)
    for stream in (Stream(ValueError("no")), good):
        turn_end.owes(stream)
    await asyncio.sleep(0)

    assert relayed == [good]
    assert "internal fault in relaying a stream" in caplog.text
