"""The gate: what becomes of a request between its admission and its first byte upstream."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import JournalFailed, StoreAway
from proxy.store import Refusal, Waiter
from tests.server.worker_path import NoStore, WorkerPath, reply, request

AWAY = StoreAway("store: nobody is there")


class WaitingStore(NoStore):
    """Answers when the test likes; remembers what it was told."""

    def __init__(self) -> None:
        self.waiters: list[Waiter] = []
        self.accounts: Any = ()
        self.told: list[str] = []
        self.away: StoreAway | None = None
        self.journal: JournalFailed | None = None
        self.opening: Awaitable[None] | None = None
        self.has_ahead = False

    def ask_hold(self, opened: object, accounts: object, *, waiter: Waiter, times: int = 1) -> StoreAway | None:
        self.accounts = accounts
        if self.away is None:
            self.waiters.append(waiter)
        return self.away

    async def hold(self, opened: object, accounts: object, *, times: int = 1) -> Refusal | None:
        self.told.append("hold")
        return None

    def hold_later(self, opened: object, accounts: object) -> None:
        self.told.append("hold later")

    def hold_ahead(self, opened: object, accounts: object) -> bool:
        if self.has_ahead:
            self.told.append("hold ahead")
        return self.has_ahead

    def begin(self, entry_ids: Sequence[str]) -> Awaitable[None] | None:
        self.told.append("begin" if len(entry_ids) == 1 else f"begin {len(entry_ids)}")
        if self.journal is not None:
            raise self.journal
        return self.opening

    def give_up(self, entry_id: str) -> None:
        self.told.append("give up")

    def release(self, entry_id: str) -> None:
        self.told.append("release")

    def settle(self, line: object, accounts: object) -> None:
        self.told.append("settle")


@asynccontextmanager
async def at_the_gate(tmp_path: Path) -> AsyncIterator[tuple[WorkerPath, WaitingStore]]:
    """A request that waits for the store's word."""
    store = WaitingStore()
    path = WorkerPath(asyncio.get_running_loop(), tmp_path, store)
    path.from_client.data_received(request())
    while not store.waiters:
        await asyncio.sleep(0)
    yield path, store
    assert path.forwarder._under_way.open.of(store_owner(path)) == 0
    path.close()


def store_owner(path: WorkerPath) -> Any:
    [known] = path.forwarder._callers._known.values()
    assert known.caller is not None
    return known.caller.owner


def answer(path: WorkerPath) -> tuple[int, str]:
    head, _, body = path.client.taken().partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]["code"]


async def soon() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_nothing_goes_upstream_before_the_store_has_said_so(tmp_path: Path) -> None:
    async with at_the_gate(tmp_path) as (path, store):
        await soon()
        assert not path.upstream.written

        store.waiters[0].held()

        assert path.upstream.taken().startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
        path.from_upstream.data_received(reply())
        assert path.client.taken().startswith(b"HTTP/1.1 200 OK\r\n")
        assert store.told == ["settle"]  # it was journalled with the store's answer


async def test_a_stream_whose_money_was_set_aside_ahead_asks_nobody(tmp_path: Path) -> None:
    async with at_the_gate(tmp_path) as (path, store):
        store.waiters.pop().held()
        path.upstream.taken()
        path.from_upstream.data_received(reply())
        path.client.taken()
        store.told.clear()
        store.has_ahead = True

        path.from_client.data_received(request(b', "stream": true'))
        await soon()

        assert store.waiters == []
        assert store.told == ["hold ahead", "begin"]
        assert path.upstream.taken().startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
        path.from_upstream.data_received(reply())
        assert store.told == ["hold ahead", "begin", "settle"]

        path.from_client.data_received(request())
        await soon()

        assert len(store.waiters) == 1  # a whole reply asks
        store.waiters[0].held()
        path.from_upstream.data_received(reply())


async def test_a_refusal_is_the_clients_answer(tmp_path: Path) -> None:
    async with at_the_gate(tmp_path) as (path, store):
        limit = store.accounts[0].budget.limit
        store.waiters[0].refused(Refusal.of(store.accounts[0], 1, limit, 0))
        await soon()

        assert answer(path) == (429, "budget_exceeded")
        assert not path.upstream.written
        assert store.told == []


async def test_near_a_limit_the_store_is_asked_again(tmp_path: Path) -> None:
    async with at_the_gate(tmp_path) as (path, store):
        limit = store.accounts[0].budget.limit
        store.waiters[0].refused(Refusal.of(store.accounts[0], limit, 0, 0))
        while not path.upstream.written:  # the prompt is counted on a thread
            await asyncio.sleep(0.01)

        assert store.told == ["hold", "begin"]
        path.from_upstream.data_received(reply())


async def test_without_the_store_its_budget_lets_pass(tmp_path: Path) -> None:
    async with at_the_gate(tmp_path) as (path, store):
        store.waiters[0].store_failed(AWAY)
        await soon()

        assert path.upstream.taken()
        assert store.told == ["hold later", "begin"]
        path.from_upstream.data_received(reply())


async def test_without_the_store_from_the_beginning_likewise(tmp_path: Path) -> None:
    async with at_the_gate(tmp_path) as (path, store):
        store.waiters[0].held()
        path.from_upstream.data_received(reply())
        path.upstream.taken()
        store.told.clear()
        store.away = AWAY

        path.from_client.data_received(request())
        await soon()

        assert path.upstream.taken()
        assert store.told == ["hold later", "begin"]
        path.from_upstream.data_received(reply())


async def test_what_cannot_be_journalled_is_not_sent(tmp_path: Path) -> None:
    async with at_the_gate(tmp_path) as (path, store):
        store.waiters[0].journal_failed(JournalFailed("the journal is full"))
        await soon()

        assert answer(path) == (503, "journal_unavailable")
        assert not path.upstream.written
        assert store.told == []


async def test_what_cannot_be_journalled_without_the_store_is_released(tmp_path: Path) -> None:
    async with at_the_gate(tmp_path) as (path, store):
        store.journal = JournalFailed("the journal is full")
        store.waiters[0].store_failed(AWAY)
        await soon()

        assert answer(path) == (503, "journal_unavailable")
        assert store.told == ["hold later", "begin", "release"]


async def test_who_leaves_while_the_store_is_asked_is_given_up(tmp_path: Path) -> None:
    async with at_the_gate(tmp_path) as (path, store):
        path.from_client.connection_lost(None)

        assert store.told == ["give up"]
        store.waiters[0].held()  # too late
        assert not path.upstream.written


async def test_who_leaves_while_the_disk_is_waited_for_is_released(tmp_path: Path) -> None:
    async with at_the_gate(tmp_path) as (path, store):
        store.opening = asyncio.get_running_loop().create_future()
        store.waiters[0].store_failed(AWAY)
        await soon()

        path.from_client.connection_lost(None)
        await soon()

        assert store.told == ["hold later", "begin", "release"]
        assert not path.upstream.written


async def test_the_end_of_the_worker_gives_up_who_waits(tmp_path: Path) -> None:
    async with at_the_gate(tmp_path) as (path, store):
        assert await path.forwarder.drain(0.01) == 1

        assert store.told == ["give up"]


async def test_a_fault_in_the_decision_is_the_requests_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with at_the_gate(tmp_path) as (path, store):
        store.waiters[0].store_failed(StoreAway("x"))
        store.hold_later = None  # type: ignore[method-assign,assignment]
        await soon()

        assert answer(path) == (500, "internal_fault")
        assert "internal fault in admitting a request" in caplog.text


async def test_requests_that_waited_for_each_other_are_served_one_after_the_other(tmp_path: Path) -> None:
    async with at_the_gate(tmp_path) as (path, store):
        path.from_client.data_received(request() * 50)
        for number in range(51):
            while len(store.waiters) <= number:
                await asyncio.sleep(0)
            assert not path.upstream.written
            store.waiters[number].held()
            assert path.upstream.taken()
            path.from_upstream.data_received(reply())
            assert path.client.taken().startswith(b"HTTP/1.1 200 OK\r\n")


async def test_what_cannot_be_counted_is_over_all_the_same(tmp_path: Path) -> None:
    async with at_the_gate(tmp_path) as (path, store):
        store.waiters[0].held()

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        store.settle = full  # type: ignore[method-assign,assignment]
        with pytest.raises(OSError, match="No space"):
            path.from_upstream.data_received(reply())

        assert path.client.taken().startswith(b"HTTP/1.1 200 OK\r\n")
        assert await path.forwarder.drain(0.01) == 0


@asynccontextmanager
async def unasked(tmp_path: Path) -> AsyncIterator[tuple[WorkerPath, WaitingStore]]:
    """Of a budget that only alerts; one request was served."""
    store = WaitingStore()
    path = WorkerPath(asyncio.get_running_loop(), tmp_path, store, on_exceed="alert")
    await path.warm(request(), reply())
    store.told.clear()
    yield path, store
    assert path.forwarder._under_way.open.of(store_owner(path)) == 0
    path.close()


async def test_what_no_budget_refuses_is_sent_at_the_end_of_the_turn_and_asks_nobody(tmp_path: Path) -> None:
    async with unasked(tmp_path) as (path, store):
        path.from_client.data_received(request())
        assert not path.upstream.written
        await soon()

        assert path.upstream.taken()
        assert store.told == ["hold later", "begin"]
        path.from_upstream.data_received(reply())
        assert path.client.taken().startswith(b"HTTP/1.1 200 OK\r\n")


async def test_all_that_pass_in_one_turn_are_journalled_together(tmp_path: Path) -> None:
    async with unasked(tmp_path) as (path, store):
        clients = [path.another_client() for _ in range(3)]
        for client in clients:
            client.data_received(request())
        clients[1].connection_lost(None)
        await soon()

        assert store.told == ["hold later"] * 3 + ["give up", "begin 2"]
        assert path.upstream.taken().startswith(b"POST ")
        path.from_upstream.data_received(reply())
        assert path.client.taken().startswith(b"HTTP/1.1 200 OK\r\n")
        while not path.client.written:  # the other one has no connection but one that is refused
            await asyncio.sleep(0.01)
        assert answer(path) == (502, "upstream_unreachable")


async def test_what_cannot_be_journalled_is_not_sent_whoever_refuses_it(tmp_path: Path) -> None:
    async with unasked(tmp_path) as (path, store):
        store.journal = JournalFailed("the journal is full")
        path.from_client.data_received(request())
        await soon()

        assert answer(path) == (503, "journal_unavailable")
        assert store.told == ["hold later", "begin", "release"]
        assert not path.upstream.written


async def test_a_fault_in_journalling_is_answered_to_all_that_pass(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with unasked(tmp_path) as (path, store):
        store.begin = None  # type: ignore[method-assign,assignment]
        path.from_client.data_received(request())
        await soon()

        assert answer(path) == (500, "internal_fault")
        assert "internal fault in admitting a request" in caplog.text
        assert store.told == ["hold later", "release"]


def broken(*_: object) -> None:
    raise RuntimeError("broken")


async def test_a_fault_in_sending_is_answered_and_what_may_have_been_read_is_settled(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with at_the_gate(tmp_path) as (path, store):
        path.upstream.write = broken  # type: ignore[method-assign,assignment]
        store.waiters[0].held()

        assert answer(path) == (502, "upstream_unreachable")
        assert "internal fault in sending a request" in caplog.text
        while not store.told:  # its tokens are counted first
            await asyncio.sleep(0.01)
        assert store.told == ["settle"]


async def test_such_a_fault_concerns_one_of_those_that_pass_together(tmp_path: Path) -> None:
    async with unasked(tmp_path) as (path, store):
        path.upstream.write = broken  # type: ignore[method-assign,assignment]
        for client in (path.from_client, path.another_client()):
            client.data_received(request())
        await soon()
        assert answer(path) == (502, "upstream_unreachable")
        while not path.client.written:  # the other one has no connection but one that is refused
            await asyncio.sleep(0.01)

        assert answer(path) == (502, "upstream_unreachable")
        while "settle" not in store.told:
            await asyncio.sleep(0.01)
        assert sorted(store.told) == ["begin 2", "hold later", "hold later", "release", "settle"]


async def waits_for_the_disk(path: WorkerPath, store: WaitingStore) -> "asyncio.Future[None]":
    """A request that is sent when this is done."""
    synced: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    store.opening = synced
    path.from_client.data_received(request())
    await soon()
    assert not path.upstream.written
    return synced


async def test_what_must_be_on_disk_first_is_waited_for(tmp_path: Path) -> None:
    async with unasked(tmp_path) as (path, store):
        synced = await waits_for_the_disk(path, store)

        synced.set_result(None)
        await soon()

        assert path.upstream.taken()
        path.from_upstream.data_received(reply())


async def test_who_leaves_while_that_is_waited_for_is_not_sent(tmp_path: Path) -> None:
    async with unasked(tmp_path) as (path, store):
        synced = await waits_for_the_disk(path, store)
        path.from_client.connection_lost(None)

        synced.set_exception(JournalFailed("the disk is broken"))
        await soon()

        assert store.told == ["hold later", "begin", "give up"]
        assert not path.upstream.written
