"""What people change in the store while a proxy serves: caller keys and raised limits. Looked at every second."""

import asyncio
import logging
from collections.abc import Callable
from time import monotonic

from proxy.budgets import Raises
from proxy.errors import StoreAway, StoreError
from proxy.store import Store

LOOK_SECONDS = 1.0

log = logging.getLogger("taximeter")


class Following:
    """Tells `on_raises` of all raises at first and after each change, and `on_look` of every look that was answered:

    the store's revision, and when it was asked for (monotonic seconds). While the store is away nothing is told: the
    last raises stay, and each ends at its own time.
    """

    def __init__(
        self,
        store: Store,
        on_raises: Callable[[Raises], object],
        on_look: Callable[[bytes | None, float], object] = lambda _revision, _at: None,
    ) -> None:
        self._store = store
        self._on_raises = on_raises
        self._on_look = on_look
        self._known: bytes | None = None
        self._has_looked = False
        self._said = ""

    async def look(self) -> None:
        """Once. What the store cannot say now, it is asked again."""
        asked_at = monotonic()
        try:
            revision = await self._store.revision()
            if not self._has_looked or revision != self._known:
                self._on_raises(Raises(await self._store.read_raises()))
                self._has_looked, self._known = True, revision
        except StoreAway:
            return  # whoever keeps the connection says so
        except StoreError as error:
            if str(error) != self._said:
                self._said = str(error)
                log.error("raised limits stay as they were: %s", error)  # noqa: TRY400 - a finding, not a fault
            return
        self._on_look(revision, asked_at)

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()
