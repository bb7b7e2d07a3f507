"""The ops port shows what it can at any moment: a worker's file that is only being made must not break a scrape."""

from datetime import datetime
from pathlib import Path

from aiohttp.test_utils import make_mocked_request

from proxy.budgets import BudgetBook
from proxy.errors import StoreAway
from proxy.server.ops import Ops
from proxy.store import Standing


class AwayStore:
    is_wiped = True
    set_aside = 2

    async def standings(self, _book: BudgetBook, _at: datetime) -> list[Standing]:
        return []

    async def ping(self) -> bool:
        raise StoreAway("away")


class State:
    serving = True
    book = BudgetBook([])
    store = AwayStore()


async def test_a_file_that_is_being_made_does_not_break_a_scrape(tmp_path: Path) -> None:
    (tmp_path / "counter_w0.db").touch()

    response = await Ops(State(), tmp_path).metrics(make_mocked_request("GET", "/metrics"))  # type: ignore[arg-type]

    assert response.status == 200
    assert isinstance(response.body, bytes)
    assert b"taximeter_store_up 0.0" in response.body
    assert b"taximeter_store_wiped 1.0" in response.body
    assert b"taximeter_set_aside_entries 2.0" in response.body
    assert b"# TYPE taximeter_requests_total counter" in response.body
