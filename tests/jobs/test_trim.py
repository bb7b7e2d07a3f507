"""The ledger's retention as a job: what the configuration says, and a word about what was done."""

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.config import Config
from proxy.jobs.trim import Trim
from proxy.store import Store
from tests.store.cases import entry
from tests.store.conftest import applied
from tests.store.servers import Server


@pytest.fixture
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="tm-") as path:
        running = Server("valkey", Path(path))
        running.start()
        yield running
        running.kill()


async def test_it_keeps_so_many_lines_and_says_what_it_folded(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="taximeter")
    async with await Store.open(server.url, writer="w1", timeout=5) as store:
        for number in range(10):
            store.settle(entry(f"e{number}", 1), [])
        await applied(store)
        job = Trim(store, days=90, most=7)
        await job.run()
        await job.run()

        assert [line.id async for line in store.read_ledger()] == [f"e{number}" for number in range(3, 10)]
    said = [record.getMessage() for record in caplog.records if record.name == "taximeter"]
    assert said == ["3 lines of the ledger are kept in sums only from now on"]


def test_retention_is_90_days_and_a_million_lines_unless_configured(tmp_path: Path) -> None:
    config = Config(data_dir=tmp_path)

    assert (config.ledger_days, config.ledger_max_entries) == (90, 1_000_000)
