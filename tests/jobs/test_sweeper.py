"""A writer that does not beat any more is swept; one that lives after all corrects what was presumed of it."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis

from proxy.jobs.sweeper import DEAD_SECONDS, LOOK_SECONDS, Sweeper
from proxy.journal import Journal
from proxy.ledger import LedgerEntry
from proxy.store import Store, Sweeping
from tests.store.calling import ledger, standing, sums
from tests.store.cases import AT, account, entry, opened, parked_request
from tests.store.conftest import applied, eventually
from tests.store.servers import Server

BUDGET = account(limit=10**6)
DAY = 86_400


class Bench:
    """A sweeper whose clocks stand still until they are told otherwise."""

    def __init__(self, url: str) -> None:
        self.now = 1000.0
        self.unix = AT.timestamp()
        self.presumed: list[LedgerEntry] = []
        self.sweeper = Sweeper(Sweeping(url, self.presumed.append), monotonic=lambda: self.now, clock=lambda: self.unix)

    async def look_for(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            await self.sweeper.run()
            if self.now >= end:
                return
            self.now += LOOK_SECONDS


@pytest.fixture
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="tm-") as path:
        running = Server("valkey", Path(path))
        running.start()
        yield running
        running.kill()


@pytest.fixture
def raw(server: Server) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


@pytest.fixture
def bench(server: Server) -> Bench:
    return Bench(server.url)


@pytest.fixture
async def writer(server: Server, tmp_path: Path) -> AsyncIterator[Store]:
    store = await Store.open(server.url, writer="w1", timeout=2, journal=Journal.create(tmp_path, "w1"))
    yield store
    await store.close(1)


async def begin(store: Store, entry_id: str) -> None:
    assert await store.hold(opened(entry_id, 40, BUDGET), [BUDGET]) is None
    assert store.begin([entry_id]) is None


def lines_of(client: redis.Redis, entry_id: str) -> list[tuple[str, int, str]]:
    return [(line["line"], line["requests"], line["status"]) for line in ledger(client) if line["id"] == entry_id]


async def test_who_beats_is_left_alone(bench: Bench, writer: Store, raw: redis.Redis) -> None:
    await begin(writer, "e1")
    for _ in range(20):
        raw.hincrby("{taximeter}:writer:w1", "beat", 1)
        await bench.look_for(2 * LOOK_SECONDS)
    assert bench.presumed == []
    assert standing(raw, BUDGET) == (40, 40)


async def test_what_a_lost_host_held_is_presumed_after_45_seconds(
    bench: Bench,
    writer: Store,
    raw: redis.Redis,
) -> None:
    for number in range(150):
        await begin(writer, f"e{number}")
    assert await writer.hold(opened("admitted", 40, BUDGET), [BUDGET]) is None
    await bench.look_for(DEAD_SECONDS - LOOK_SECONDS)
    assert bench.presumed == []
    await bench.look_for(2 * LOOK_SECONDS)
    assert len(bench.presumed) == 151
    assert standing(raw, BUDGET) == (151 * 40, 0)
    assert sums(raw)["requests"] == 151
    [line] = [line for line in ledger(raw) if line["id"] == "e7"]
    assert (line["status"], line["reason"], line["writer"], line["client_request_id"]) == (
        "presumed",
        "host_lost",
        "w1",
        "c1",
    )
    assert raw.smembers("{taximeter}:writers") == set()
    await bench.look_for(2 * DEAD_SECONDS)
    assert len(bench.presumed) == 151


async def test_a_writer_that_lives_after_all_corrects_it(
    bench: Bench,
    writer: Store,
    raw: redis.Redis,
) -> None:
    """A mistaken sweep: the host was stopped for a minute. What it finished meanwhile or later is what counts."""
    for entry_id in ("open", "done", "never sent"):
        await begin(writer, entry_id)
    await bench.look_for(DEAD_SECONDS + LOOK_SECONDS)
    assert len(bench.presumed) == 3
    writer.settle(entry("done", 7), [BUDGET])  # superseded: it connects again, and mends
    writer.release("never sent")
    await applied(writer)
    assert lines_of(raw, "done") == [
        ("entry", 1, "presumed"),
        ("correction", -1, "presumed"),
        ("correction", 1, "reported"),
    ]
    await eventually(lambda: len(lines_of(raw, "never sent")) == 2)
    assert lines_of(raw, "open") == [("entry", 1, "presumed")]
    assert standing(raw, BUDGET) == (47, 0)
    assert raw.smembers("{taximeter}:writers") == {"w1"}
    writer.settle(entry("open", 9), [BUDGET])
    await applied(writer)
    assert (standing(raw, BUDGET), sums(raw)["requests"]) == ((16, 0), 2)


async def test_what_is_released_was_never_sent_whatever_was_presumed(
    bench: Bench, writer: Store, server: Server, raw: redis.Redis
) -> None:
    """The sweep was not noticed: the writer has the place back before it releases."""
    await begin(writer, "e1")
    await bench.look_for(DEAD_SECONDS + LOOK_SECONDS)
    await writer.hold(opened("e2", 40, BUDGET), [BUDGET])  # superseded: a new connection, and e1 is still open
    assert lines_of(raw, "e1") == [("entry", 1, "presumed")]
    writer.release("e1")
    await applied(writer)
    assert [each[:2] for each in lines_of(raw, "e1")] == [("entry", 1), ("correction", -1)]
    assert standing(raw, BUDGET) == (40, 40)


async def test_numbers_go_on_after_a_mistaken_sweep(
    bench: Bench,
    writer: Store,
    raw: redis.Redis,
) -> None:
    await begin(writer, "e1")
    writer.settle(entry("e1", 7), [BUDGET])
    await applied(writer)
    await begin(writer, "e2")
    await bench.look_for(DEAD_SECONDS + LOOK_SECONDS)
    writer.settle(entry("e2", 7), [BUDGET])
    await applied(writer)
    assert raw.hget("{taximeter}:writer:w1", "number") == "2"
    assert sorted(line["id"] for line in ledger(raw)) == ["e1", "e2", "e2", "e2"]
    assert standing(raw, BUDGET) == (14, 0)


async def test_a_writer_that_came_back_between_the_look_and_the_sweep_is_left_alone(
    bench: Bench,
    writer: Store,
    server: Server,
    raw: redis.Redis,
) -> None:
    await begin(writer, "e1")
    sweeping = Sweeping(server.url, bench.presumed.append)
    [beat] = (await sweeping.beats()).values()
    raw.hincrby("{taximeter}:writer:w1", "beat", 1)
    assert await sweeping.sweep("w1", beat, "host_lost") == 0
    assert standing(raw, BUDGET) == (40, 40)
    await begin(writer, "e2")  # and was not superseded
    assert writer._connection.life == 1


async def test_who_could_not_look_begins_anew(bench: Bench, writer: Store, raw: redis.Redis) -> None:
    """The store, or the sweeper, was stopped: then nobody could beat."""
    await begin(writer, "e1")
    await bench.look_for(DEAD_SECONDS - LOOK_SECONDS)
    bench.now += 60
    await bench.look_for(LOOK_SECONDS)
    assert bench.presumed == []
    await bench.look_for(DEAD_SECONDS)
    assert [each.id for each in bench.presumed] == ["e1"]


async def test_a_writer_without_a_trace_is_only_taken_from_the_list(
    bench: Bench,
    server: Server,
    raw: redis.Redis,
) -> None:
    raw.sadd("{taximeter}:writers", "gone")
    await bench.look_for(DEAD_SECONDS + LOOK_SECONDS)
    assert list(raw.scan_iter("*gone*")) == []
    assert raw.smembers("{taximeter}:writers") == set()


async def test_the_end_of_a_background_response_may_be_asked_for_within_a_day(
    bench: Bench,
    writer: Store,
    raw: redis.Redis,
) -> None:
    await begin(writer, "e1")
    writer.park("resp_1", parked_request("e1"), opened("e1", 40, BUDGET))
    await applied(writer)
    bench.unix += DAY - 60
    await bench.sweeper.run()
    assert standing(raw, BUDGET) == (40, 40)
    bench.unix += 120
    await bench.sweeper.run()
    assert [each.id for each in bench.presumed] == ["e1"]
    assert standing(raw, BUDGET) == (40, 0)
    [line] = ledger(raw)
    assert (line["status"], line["reason"], line["upstream_id"]) == ("presumed", "no_end_seen", "resp_1")

    # A GET that shows the end after that is a correction.
    assert [each.entry_id for each in await writer.parked("resp_1")] == ["e1"]
    writer.settle(entry("e1", 7), [BUDGET], parked="resp_1")
    await applied(writer)
    assert [each[:2] for each in lines_of(raw, "e1")] == [("entry", 1), ("correction", -1), ("correction", 1)]
    assert standing(raw, BUDGET) == (7, 0)
    assert not raw.exists("{taximeter}:parked", "{taximeter}:background:resp_1")


async def test_what_was_presumed_of_a_background_response_is_forgotten_after_90_days(
    bench: Bench,
    writer: Store,
    raw: redis.Redis,
) -> None:
    await begin(writer, "e1")
    writer.park("resp_1", parked_request("e1"), opened("e1", 40, BUDGET))
    await applied(writer)
    for days in (2, 89):
        bench.unix += days * DAY
        await bench.sweeper.run()
    assert raw.exists("{taximeter}:background:resp_1")
    bench.unix += 2 * DAY
    await bench.sweeper.run()
    assert not raw.exists("{taximeter}:parked", "{taximeter}:background:resp_1")
    assert (standing(raw, BUDGET), len(bench.presumed)) == ((40, 0), 1)


async def test_a_writer_beats_and_says_where_it_runs(
    server: Server,
    raw: redis.Redis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from proxy.store import flow

    monkeypatch.setattr(flow, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(flow, "LOOK_SECONDS", 0.02)
    store = await Store.open(server.url, writer="w2", timeout=2, journal=Journal.create(tmp_path, "w2"))
    await eventually(lambda: int(str(raw.hget("{taximeter}:writer:w2", "beat"))) > 5)
    assert raw.hget("{taximeter}:writer:w2", "host")
    assert raw.ttl("{taximeter}:writer:w2") > 89 * DAY
    await asyncio.gather(*(begin(store, f"e{number}") for number in range(10)))
    for number in range(10):
        store.release(f"e{number}")
    assert await store.close(5) == 0
