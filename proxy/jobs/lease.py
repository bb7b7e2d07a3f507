"""A lease as its holder sees it: taken, kept up, and known to be lost before anybody else can have it."""

import asyncio
import secrets

from proxy.errors import StoreError
from proxy.store import Store

SECONDS = 15.0


class Lease:
    """Invariant: between `take` and the return of `lost` nobody else holds it, as long as this process is not stopped.

    Its time counts from before the store was asked, so it ends here no later than there.
    """

    def __init__(self, store: Store, name: str, seconds: float = SECONDS) -> None:
        self._store = store
        self._name = name
        self._seconds = seconds
        self._holder = secrets.token_hex(8)
        self._until = 0.0

    async def take(self) -> bool:
        """Whether it is ours now. Raises StoreError."""
        now = asyncio.get_running_loop().time()
        is_ours = await self._store.take_lease(self._name, self._holder, self._seconds)
        if is_ours:
            self._until = now + self._seconds
        return is_ours

    async def lost(self) -> None:
        """Keep it up; come back when it is somebody else's, or could be because the store did not answer in time."""
        loop = asyncio.get_running_loop()
        while loop.time() < self._until:
            await asyncio.sleep(min(self._seconds / 3, self._until - loop.time()))
            try:
                async with asyncio.timeout_at(self._until):
                    if not await self.take():
                        return
            except (StoreError, TimeoutError):
                continue

    async def drop(self) -> None:
        """Let others have it at once. Raises StoreError; then it ends by itself."""
        self._until = 0.0
        await self._store.drop_lease(self._name, self._holder)
