"""Asking for a hold without a future: who waits is called once, and is journalled before he may send."""

import asyncio
from pathlib import Path

import pytest

from proxy.errors import JournalFailed, StoreAway, StoreError, StoreWiped
from proxy.journal import adopt
from proxy.store import Refusal, Store, keys
from tests.store.calling import standing
from tests.store.cases import account, entry, opened
from tests.store.conftest import applied, eventually
from tests.store.servers import Server

BUDGET = account(limit=100)


class Heard:
    """A waiter. `open`: what the file of the journal said was open when it was called."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.calls: list[object] = []
        self.open: set[str] = set()

    def _hear(self, what: object) -> None:
        self.calls.append(what)
        assert self._store._journal is not None
        self.open = set(self._store._journal._open)

    def held(self) -> None:
        self._hear("held")

    def refused(self, refusal: Refusal) -> None:
        self._hear(refusal)

    def store_failed(self, error: StoreError) -> None:
        self._hear(error)

    def journal_failed(self, error: JournalFailed) -> None:
        self._hear(error)

    async def once(self) -> object:
        await eventually(lambda: bool(self.calls))
        await asyncio.sleep(0.01)
        [call] = self.calls
        return call


def ask(store: Store, entry_id: str, nanos: int) -> Heard:
    heard = Heard(store)
    assert store.ask_hold(opened(entry_id, nanos), [BUDGET], waiter=heard) is None
    assert heard.calls == []
    return heard


async def test_who_is_held_has_been_journalled(own_server: Server, writer: Store, tmp_path: Path) -> None:
    heard = ask(writer, "e1", 40)
    assert await heard.once() == "held"
    assert heard.open == {"e1"}
    with own_server.client() as raw:
        assert standing(raw, BUDGET) == (40, 40)
        writer.settle(entry("e1", 30), [BUDGET])
        await applied(writer)
        assert standing(raw, BUDGET) == (30, 0)
    assert writer._journal is not None
    writer._journal.close(remove=False)
    adopted = adopt(tmp_path / "journal" / "w1")
    assert adopted is not None
    assert (adopted.open, [each[:2] for each in adopted.finished]) == ({}, [(1, "e1")])
    adopted.journal.close(remove=False)


async def test_all_that_one_answer_grants_is_journalled_with_one_write(
    writer: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = writer._journal
    assert journal is not None
    written: list[int] = []
    real = journal._segment.write

    def write(data: bytes) -> None:
        written.append(len(data))
        real(data)

    monkeypatch.setattr(journal._segment, "write", write)
    some = [ask(writer, f"e{number}", 30) for number in range(4)]
    assert [await heard.once() for heard in some[:3]] == ["held"] * 3
    refusal = await some[3].once()
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.held) == ("budget_held", 90)
    assert some[0].open == {"e0", "e1", "e2"}  # before the first of them was called
    assert len(written) == 1
    assert writer._pending.live.keys() == {"e0", "e1", "e2"}
    for number in range(3):
        writer.settle(entry(f"e{number}", 30), [BUDGET])
    await applied(writer)
    assert len(written) == 2


async def test_the_hold_must_fit_so_many_times(writer: Store) -> None:
    heard = Heard(writer)
    assert writer.ask_hold(opened("e1", 40), [BUDGET], times=3, waiter=heard) is None
    assert isinstance(await heard.once(), Refusal)
    assert (heard.open, writer._pending.live) == (set(), {})


async def test_with_the_store_away_nobody_is_called(own_server: Server, writer: Store) -> None:
    own_server.kill()
    await eventually(lambda: not writer.is_connected)
    heard = Heard(writer)
    assert isinstance(writer.ask_hold(opened("e1", 40), [BUDGET], waiter=heard), StoreAway)
    await asyncio.sleep(0.05)
    assert (heard.calls, writer._pending.live) == ([], {})


async def test_a_store_that_hangs_is_away_after_the_timeout(own_server: Server, writer: Store) -> None:
    own_server.pause()
    heard = ask(writer, "e1", 40)
    error = await heard.once()
    assert isinstance(error, StoreAway)
    assert "no answer within 0.5 s" in str(error)
    assert (heard.open, writer._pending.live) == (set(), {})
    own_server.resume()
    await eventually(lambda: writer.is_connected and not len(writer._pending))
    with own_server.client() as raw:
        await eventually(lambda: standing(raw, BUDGET) == (0, 0))
        assert not raw.exists(keys.holds("w1"))


async def test_a_store_that_was_wiped_holds_nothing(own_server: Server, writer: Store) -> None:
    with own_server.client() as raw:
        raw.flushall()
        heard = ask(writer, "e1", 40)
        error = await heard.once()  # its token is gone too, so it is asked again, and granted, on a new connection
        assert isinstance(error, StoreWiped)
        await applied(writer)
        assert (heard.open, writer._pending.live, raw.exists(keys.holds("w1"))) == (set(), {}, 0)
    later = Heard(writer)
    assert isinstance(writer.ask_hold(opened("e2", 40), [BUDGET], waiter=later), StoreWiped)
    assert later.calls == []


async def test_who_leaves_before_the_answer_hears_nothing(own_server: Server, writer: Store) -> None:
    ask(writer, "first", 10)
    unsent, sent = ask(writer, "unsent", 10), ask(writer, "sent", 10)
    writer.give_up("unsent")  # in the same turn: it is never sent
    await asyncio.sleep(0)
    writer.give_up("sent")
    await applied(writer)
    await asyncio.sleep(0.01)
    assert (unsent.calls, sent.calls, set(writer._pending.live)) == ([], [], {"first"})
    with own_server.client() as raw:
        assert standing(raw, BUDGET) == (10, 10)


async def test_who_leaves_after_the_answer_gives_it_back(own_server: Server, writer: Store) -> None:
    heard = ask(writer, "e1", 40)
    assert await heard.once() == "held"
    writer.give_up("e1")
    writer.give_up("never asked")
    await applied(writer)
    assert writer._journal is not None
    assert (len(heard.calls), writer._journal.open_count) == (1, 0)
    with own_server.client() as raw:
        assert standing(raw, BUDGET) == (0, 0)


async def test_who_is_given_up_by_another_waiter_hears_nothing(own_server: Server, writer: Store) -> None:
    class Spoiler(Heard):
        def held(self) -> None:
            super().held()
            writer.give_up("other")

    spoiler = Spoiler(writer)
    assert writer.ask_hold(opened("spoiler", 10), [BUDGET], waiter=spoiler) is None
    other = ask(writer, "other", 10)
    assert await spoiler.once() == "held"
    await applied(writer)
    assert writer._journal is not None
    assert (other.calls, writer._journal.open_count) == ([], 1)
    with own_server.client() as raw:
        assert standing(raw, BUDGET) == (10, 10)


async def test_a_journal_that_cannot_be_written_gives_all_of_them_back(
    own_server: Server, writer: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise JournalFailed("the disk is full")

    monkeypatch.setattr(writer._journal, "open", full)
    for heard in [ask(writer, f"e{number}", 10) for number in range(3)]:
        assert isinstance(await heard.once(), JournalFailed)
    await applied(writer)
    assert writer._pending.live == {}
    with own_server.client() as raw:
        assert standing(raw, BUDGET) == (0, 0)


async def test_a_waiter_that_fails_stops_no_other(writer: Store, caplog: pytest.LogCaptureFixture) -> None:
    class Faulty(Heard):
        def held(self) -> None:
            raise ZeroDivisionError

    assert writer.ask_hold(opened("faulty", 10), [BUDGET], waiter=Faulty(writer)) is None
    heard = ask(writer, "e1", 10)
    assert await heard.once() == "held"
    assert "internal fault of somebody who waited" in caplog.text


async def test_a_waiter_may_ask_and_tell_at_once(own_server: Server, writer: Store) -> None:
    class Eager(Heard):
        def refused(self, refusal: Refusal) -> None:
            super().refused(refusal)
            assert writer.ask_hold(opened("e1", 90), [BUDGET], waiter=second) is None

    class Ending(Heard):
        def held(self) -> None:
            super().held()
            writer.settle(entry("e1", 80), [BUDGET])

    first, second = Eager(writer), Ending(writer)
    assert writer.ask_hold(opened("e1", 90), [BUDGET], times=4, waiter=first) is None
    assert isinstance(await first.once(), Refusal)
    assert await second.once() == "held"
    await applied(writer)
    with own_server.client() as raw:
        assert standing(raw, BUDGET) == (80, 0)


async def test_closing_tells_who_still_waits(own_server: Server, writer: Store) -> None:
    own_server.pause()
    heard = ask(writer, "e1", 10)
    await writer.close(0)
    assert isinstance(await heard.once(), StoreAway)
    own_server.resume()


async def test_without_a_journal_nothing_is_opened(server: Server) -> None:
    async with await Store.open(server.url, writer="w9", timeout=2) as store:
        told = asyncio.Event()

        class Held(Heard):
            def _hear(self, what: object) -> None:
                assert what == "held"
                told.set()

        assert store.ask_hold(opened("e1", 10), [BUDGET], waiter=Held(store)) is None
        async with asyncio.timeout(5):
            await told.wait()
        store.release("e1")


async def test_what_nobody_waits_for_lingers_and_travels_with_what_is_asked(
    writer: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await ask(writer, "e0", 1).once() == "held"  # and the server knows the script
    flow = writer._connection._flow
    assert flow is not None
    calls: list[bytes] = []
    send = flow._channel.send

    def sent(command: bytes) -> None:
        calls.append(command)
        send(command)

    monkeypatch.setattr(flow._channel, "send", sent)

    writer.hold_later(opened("e1", 10), [BUDGET])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert calls == []
    assert await ask(writer, "e2", 40).once() == "held"
    assert len(calls) == 1
    assert writer._pending.live["e1"].is_kept

    writer.release("e1")
    await applied(writer)
    assert len(calls) == 2
