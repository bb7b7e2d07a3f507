"""Retention of the ledger: what is too old, or too much, becomes checkpoint sums."""

import logging
from datetime import timedelta

from proxy.store import Store

EVERY_SECONDS = 60.0

log = logging.getLogger("taximeter")


class Trim:
    """Keeps `days` days of the ledger, and no more than `most` lines."""

    name = "trim"
    every_seconds = EVERY_SECONDS

    def __init__(self, store: Store, *, days: int, most: int) -> None:
        self._store = store
        self._keep = timedelta(days=days)
        self._most = most

    async def run(self) -> None:
        trimmed = await self._store.trim_ledger(keep=self._keep, most=self._most)
        if trimmed:
            log.info("%d lines of the ledger are kept in sums only from now on", trimmed)
