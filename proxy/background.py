"""Requests that the upstream works on in the background: accepted with one reply, charged when another shows the end.

The reply that accepts has no usage: what is known is parked in the store, with its hold. A later GET of the response,
through whichever worker or proxy of the same store, shows its usage; the first one charges it, as if it had come at
once. A response that nobody parked was charged with its own reply, and is not charged again.
"""

import asyncio
import logging
from collections import OrderedDict
from datetime import datetime

from msgspec.structs import replace

from proxy.admission import Admitted, Rules
from proxy.budgets import Owner
from proxy.errors import StoreError
from proxy.ledger import Parked
from proxy.metering import Reading
from proxy.settlement import Settlement
from proxy.store import Store

# Seconds. What was parked a moment ago may still be on its way to the store, or the store may be away.
PAUSES = (0.0, 0.5, 2.0, 8.0)
MAX_CHARGED = 4096

log = logging.getLogger(__name__)


class Background:
    """Charges what was parked. One a worker."""

    def __init__(self, store: Store, settlement: Settlement) -> None:
        self._store = store
        self._settlement = settlement
        self._charged: OrderedDict[str, None] = OrderedDict()  # entries: the store may not have applied them yet

    async def collect(self, rules: Rules, reading: Reading) -> None:
        """Charge the requests that end with this response. Nobody waits for it."""
        if reading.upstream_id is None:
            return
        found = False
        for pause in PAUSES:
            await asyncio.sleep(pause)
            try:
                parked = await self._store.parked(reading.upstream_id)
            except StoreError as error:
                log.warning("a background response waits to be charged: %s", error)
                continue
            new = [request for request in parked if request.entry_id not in self._charged]
            for request in new:
                self._remember(request.entry_id)
                self._charge(rules, request, reading)
            if found and not new:
                return
            found = found or bool(parked)  # look again: a second request with this response may be on its way

    def _remember(self, entry_id: str) -> None:
        self._charged[entry_id] = None
        if len(self._charged) > MAX_CHARGED:
            self._charged.popitem(last=False)

    def _charge(self, rules: Rules, parked: Parked, reading: Reading) -> None:
        owner, at = Owner.of_identity(parked.owner), datetime.fromisoformat(parked.at)
        usage = reading.usage
        if reading.status == "estimated" and not usage.input:
            reading = replace(reading, usage=replace(usage, input=parked.prompt_tokens))
        settled = self._settlement.charge(
            Admitted(parked.entry_id, at, owner, parked.asked_model, (), rules),
            parked.endpoint,
            reading,
            upstream_status=200,
            client_request_id=parked.client_request_id,
            latency_ms=None,
        )
        self._settlement.settle(settled, parked=True)
