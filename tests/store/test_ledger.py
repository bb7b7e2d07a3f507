"""Reading the stream: in pages, in both directions, from the time that an id tells."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from proxy.admission import mint_entry_id
from proxy.errors import StoreRefused
from proxy.store import Store, keys
from proxy.store.ledger import Ledger, Span, after, moment_of, place_at
from tests.store.cases import entry
from tests.store.conftest import applied
from tests.store.reading import open_reads
from tests.store.servers import Server


@pytest.fixture
async def stream(server: Server) -> AsyncIterator[Ledger]:
    async with open_reads(server.url) as reads:
        yield Ledger(reads, lines_a_call=3)


@pytest.fixture
async def ten(store: Store) -> list[str]:
    """Ten entries."""
    ids = [f"e{number}" for number in range(10)]
    for each in ids:
        store.settle(entry(each, 1), [])
    await applied(store)
    return ids


async def test_forwards(stream: Ledger, ten: list[str]) -> None:
    pages = [[line.entry.id for line in page] async for page in stream.forwards()]

    assert pages == [ten[:3], ten[3:6], ten[6:9], ten[9:]]


async def test_forwards_up_to_a_place_and_on_from_there(stream: Ledger, ten: list[str]) -> None:
    fourth = [line async for page in stream.forwards() for line in page][3]

    assert [line.entry.id async for page in stream.forwards(last=fourth.place.decode()) for line in page] == ten[:4]
    rest = stream.forwards(after(fourth.place))
    assert [line.entry.id async for page in rest for line in page] == ten[4:]


async def test_backwards(stream: Ledger, ten: list[str]) -> None:
    assert [line.entry.id async for page in stream.backwards() for line in page] == ten[::-1]


@pytest.mark.parametrize("count", [0, 1, 3, 7, 10, 99])
async def test_the_newest(stream: Ledger, ten: list[str], count: int) -> None:
    assert [line.entry.id for line in await stream.newest(count)] == ten[len(ten) - min(count, 10) :]


async def test_an_empty_ledger(stream: Ledger) -> None:
    assert [page async for page in stream.forwards()] == []
    assert [page async for page in stream.backwards()] == []
    assert await stream.newest(5) == []
    assert await stream.span() == Span(0, None, 0, None)


async def test_an_id_leads_to_its_lines_and_past_what_is_older(stream: Ledger, store: Store, raw: Any) -> None:
    begun = datetime.now(UTC)
    wanted = mint_entry_id(begun)
    # What stands before the time that the id tells is not even read: this would be a fault.
    raw.xadd(keys.LEDGER, {"e": "no line"}, id="1000-0")
    first = entry(wanted, 5)
    for line in (entry("other", 1), first, entry("names it", 1, client_request_id=wanted), first.reversed()):
        store.settle(line, [])
    await applied(store)

    assert [(line.entry.id, line.entry.requests) for line in await stream.of_id(wanted, begun)] == [
        (wanted, 1),
        (wanted, -1),
    ]
    assert await stream.of_id(mint_entry_id(begun), begun) == []


async def test_what_is_no_line_is_refused_with_its_place(stream: Ledger, raw: Any) -> None:
    raw.xadd(keys.LEDGER, {"e": "no line"}, id="1000-0")

    [line] = await stream.newest(1)
    with pytest.raises(StoreRefused, match="ledger line 1000-0 cannot be read"):
        _ = line.entry


def test_a_place_is_a_time() -> None:
    at = datetime(2026, 11, 22, 12, 0, 0, 250_000, tzinfo=UTC)

    assert moment_of(b"%d-7" % int(at.timestamp() * 1000)) == at
    assert int(place_at(at)) == int((at - timedelta(hours=1)).timestamp() * 1000)
    assert place_at(datetime(1970, 1, 1, tzinfo=UTC)) == "0"
