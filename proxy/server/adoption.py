"""Adoption: the journals of dead workers, of this life of the proxy or an earlier one, are finished in the background.

A worker's journal is its own while it lives. Once nobody holds it, it is read here, and the store is given everything
that it says; what was under way gets a presumed entry. Then the journal goes. While the store is away it waits.
"""

import asyncio
import logging
from contextlib import suppress
from pathlib import Path

from proxy.errors import JournalFailed
from proxy.journal import Adopted, adopt, orphans
from proxy.ledger import LedgerEntry
from proxy.metrics import Metrics
from proxy.settlement import count_entry
from proxy.store import Store, uncounted_entries

LOOK_SECONDS = 5.0  # between looks that nobody has asked for
SHOW_SECONDS = 0.5
AT_ONCE = 4  # journals; each is read into memory, and has connections of its own
WORKER_DIED = "worker_died"

log = logging.getLogger("taximeter")


class Adoption:
    """Adopts whatever is orphaned below `journals` until it is cancelled; what is not finished then stays for later."""

    def __init__(self, journals: Path, store_url: str, *, timeout: float, metrics: Metrics) -> None:
        self._journals = journals
        self._store_url = store_url
        self._timeout = timeout
        self._metrics = metrics
        self._looking = asyncio.Event()
        self._under_way: set[Path] = set()
        self._stores: dict[Path, tuple[Adopted, Store]] = {}  # of those that are being sent
        self._failed: set[Path] = set()  # said once; tried again at every look, in case somebody mends it

    def look(self) -> None:
        """A worker has died."""
        self._looking.set()

    async def run(self) -> None:
        """Never ends by itself."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._show(), name="spool of the dead")
            while True:
                self._looking.clear()
                for path in await asyncio.to_thread(orphans, self._journals):
                    if path not in self._under_way and len(self._under_way) < AT_ONCE:
                        self._under_way.add(path)
                        group.create_task(self._take(path), name=f"adoption of {path.name}")
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._looking.wait()

    async def _take(self, path: Path) -> None:
        try:
            adopted = await asyncio.to_thread(adopt, path)
            if adopted is not None:  # else its worker was only slow to let go
                await self._finish(path, adopted)
                self._looking.set()  # the next one may come
        except JournalFailed as error:
            if path not in self._failed:
                log.error("%s", error)  # noqa: TRY400 - a finding, not a fault
            self._failed.add(path)
        except Exception:  # of this journal; the others must not wait for its sake
            if path not in self._failed:
                log.exception("internal fault while adopting %s", path)
            self._failed.add(path)
        finally:
            self._under_way.discard(path)

    async def _finish(self, path: Path, adopted: Adopted) -> None:
        presumed = 0
        for entry in uncounted_entries(adopted):
            count_entry(self._metrics, entry)
        adopted.journal.counted()

        def count(entry: LedgerEntry) -> None:
            nonlocal presumed
            presumed += 1
            count_entry(self._metrics, entry)

        def watch(store: Store) -> None:
            self._stores[path] = adopted, store

        try:
            await Store.finish(
                self._store_url,
                adopted,
                timeout=self._timeout,
                reason=WORKER_DIED,
                on_presumed=count,
                watch=watch,
                directory=self._journals.parent,
            )
        finally:
            self._stores.pop(path, None)
        log.info("the journal of %s is settled; %d requests that it had under way are presumed", path.name, presumed)

    async def _show(self) -> None:
        """What the dead have left counts like what the living have not brought to the store yet."""
        while True:
            self._metrics.spool_entries.set(sum(store.waiting for _, store in self._stores.values()))
            self._metrics.journal_bytes.set(sum(adopted.journal.disk_bytes for adopted, _ in self._stores.values()))
            await asyncio.sleep(SHOW_SECONDS)
