"""Admission and settlement on a real store and a real journal, without sockets: requests whose start a test decides."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

from prometheus_client import CollectorRegistry

from proxy.admission import Admission, Admitted, Learned, Rules, mint_entry_id
from proxy.budgets import ANONYMOUS, BudgetBook, budget_from
from proxy.config import BudgetConfig, Config
from proxy.journal import Journal
from proxy.metering import Reading, RequestFacts
from proxy.metrics import Metrics
from proxy.settlement import Settlement
from proxy.store import Store
from rates import Usage, load_catalogue
from tests.proxy.admitting import admit

FACTS = RequestFacts(model="gpt-4o-mini", max_output_tokens=100, prompt_tokens=30, body_is_json=True)
USAGE = Usage(input=20, output=10)
COST = 20 * 150 + 10 * 600
"""Nanos of USAGE at gpt-4o-mini's rates."""
READING = Reading("reported", None, "gpt-4o-mini-2024-07-18", USAGE, None, "chatcmpl-1")
ENDPOINT = "chat/completions"


class Desk:
    def __init__(self, store: Store, budgets: Sequence[BudgetConfig]) -> None:
        learned = Learned()
        config = Config(data_dir=Path("/nowhere"), budgets=tuple(budgets))
        self.store = store
        self.rules = Rules(config, load_catalogue(), BudgetBook(map(budget_from, budgets)))
        self._admission = Admission(store, learned)
        self._settlement = Settlement(store, Metrics(CollectorRegistry()), learned)

    async def admit(self, at: datetime) -> Admitted:
        """Held and journalled, as before its first upstream byte."""
        entry_id = mint_entry_id(at)
        admitted = await admit(self._admission, self.rules, entry_id, ANONYMOUS, FACTS, at, endpoint=ENDPOINT)
        if (synced := self._settlement.open([admitted])) is not None:
            await synced
        return admitted

    def settle(self, admitted: Admitted) -> None:
        settled = self._settlement.charge(
            admitted, ENDPOINT, READING, upstream_status=200, client_request_id=None, latency_ms=1
        )
        self._settlement.settle(settled)

    def release(self, admitted: Admitted) -> None:
        self._settlement.release(admitted)


@asynccontextmanager
async def desk(url: str, directory: Path, budgets: Sequence[BudgetConfig], writer: str = "desk") -> AsyncIterator[Desk]:
    """At the end everything is applied, and the journal is gone."""
    journal = Journal.create(directory / "journal", writer)
    store = await Store.open(url, writer=writer, timeout=10, journal=journal)
    try:
        yield Desk(store, budgets)
    finally:
        unapplied = await store.close(60)
    assert not unapplied
    assert not (directory / "journal" / writer).exists()
