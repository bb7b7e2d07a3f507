"""The writing half of the store: what one writer holds and has finished, over its journal and its connection.

Over 300 lines because it is the whole face that a writer sees; what is behind each of its methods stands elsewhere.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from proxy.budgets import Account
from proxy.errors import StoreAway, StoreRefused
from proxy.journal import Adopted, Journal
from proxy.ledger.entry import LedgerEntry
from proxy.ledger.line_text import LineText
from proxy.ledger.opened import Opened, OpenedText
from proxy.ledger.parked import Parked
from proxy.store.address import Address
from proxy.store.adoption import Inheritance
from proxy.store.advances import Advances
from proxy.store.aside import Aside
from proxy.store.asking import Answer, Refusal, Waiter
from proxy.store.birth import Birth
from proxy.store.connection import OrderedConnection
from proxy.store.durable import Durability
from proxy.store.finished import Charge, Park, TooDear
from proxy.store.operations import Check, Hold, Release
from proxy.store.pending import Pending
from proxy.store.reads import LONGEST_SECONDS, Reads
from proxy.store.unkept import Unkept
from rates.money import Nanos

LAST_CONFIRMATION_SECONDS = 3.0  # at the end; what is not durable then is adopted at the next start

log = logging.getLogger(__name__)


class Writing:
    """One writer. Every method that waits raises StoreAway or StoreRefused and nothing else of the store's."""

    def __init__(
        self, url: str, *, writer: str, timeout: float, journal: Journal | None = None, directory: Path | None = None
    ) -> None:
        address = Address(url)
        self.shown_url = address.shown
        self._journal = journal
        self._loop = asyncio.get_running_loop()
        if journal is not None:
            journal.gather(self._loop)
        self._pending = Pending(journal)
        self._birth = None if directory is None else Birth(directory, address.shown)
        if self._birth is not None:
            self._pending.wiped = self._birth.wiped
        self._aside = None if directory is None else Aside(directory)
        if self._aside is not None:
            self._pending.on_set_aside = self._aside.add
        self._connection = OrderedConnection(address, writer, timeout, self._pending, self._birth)
        self._moved = asyncio.Event()  # something was applied or confirmed
        self._unkept = None if journal is None else Unkept(journal, self._loop)
        self._durability: Durability | None = None
        if journal is None:
            self._connection.on_progress = lambda: self._pending.confirm(self._pending.counted)
        else:
            self._durability = Durability(Address(url), self._connection, on_confirmed=self._moved.set)
            self._connection.on_progress = self._on_progress
        self._advances = Advances(self._connection, self._pending, self._loop)
        self._reads = Reads(Address(url), timeout)

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        writer: str,
        timeout: float,  # noqa: ASYNC109 - of every later answer, not of opening
        must_answer: bool = True,
        journal: Journal | None = None,
        directory: Path | None = None,
    ) -> Self:
        """Connect. `writer` is nobody else's name; `timeout` is in seconds, for each answer that somebody waits for.

        Whoever settles requests gives the `journal` that bears the writer's name; `close` closes it. In `directory`
        this proxy remembers which store it knew, and keeps what that store rejects.

        Raises StoreRefused when the store cannot be used, and StoreAway when it does not answer, or, if it need not,
        comes back with a store that is away and goes on trying.
        """
        store = cls(url, writer=writer, timeout=timeout, journal=journal, directory=directory)
        try:
            error = await store._connection.attempted()
        except BaseException:
            await store._close_at_once()
            raise
        if error is not None and (must_answer or isinstance(error, StoreRefused)):
            await store._close_at_once()
            raise error
        return store

    @classmethod
    async def finish(
        cls,
        url: str,
        adopted: Adopted,
        *,
        timeout: float,  # noqa: ASYNC109 - of every answer; it tries until it is done
        reason: str,
        on_presumed: Callable[[LedgerEntry], object],
        watch: Callable[[Self], object] = lambda _: None,
        directory: Path | None = None,
    ) -> None:
        """Give the store everything that a dead writer's journal says, in its name; then both forget that writer.

        What has no end gets a presumed one, for this `reason`; `on_presumed` hears of each that was applied, and
        `watch` is given the store that is at it, to see how it gets on. It goes on trying while the store is away; when
        it is cancelled, the journal stays for the next one to adopt it.
        """
        store = cls(url, writer=adopted.writer, timeout=timeout, journal=adopted.journal, directory=directory)
        inheritance = Inheritance(adopted, store._pending, reason, on_presumed)
        store._connection.on_stored = inheritance.read
        watch(store)
        try:
            if error := await store._connection.attempted():
                log.warning("what %s has left waits for the store: %s", adopted.writer, error)
            await store._settled(lambda: inheritance.is_read)
        finally:
            await store._close_at_once()

    async def close(self, drain: float) -> int:
        """Send what is pending for at most `drain` seconds. Returns the charges that did not reach the store.

        The journal goes when the store has everything for good; else it stays, to be adopted.
        """
        pending = self._pending
        self._advances.close()
        await self._connection.close(drain)
        if self._durability is not None:
            if not len(pending) and not pending.live:
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(drain, LAST_CONFIRMATION_SECONDS)):
                        await self._settled(lambda: True)
            await self._durability.close()
        is_settled = pending.is_settled and (self._journal is not None or not pending.counted)
        if self._journal is not None:
            # Before the writer: a journal whose writer the store does not know would be applied once more.
            self._journal.close(remove=is_settled)
        await self._connection.end(forget=is_settled)
        await self._reads.close()
        if pending.releases:
            log.warning("%d holds were not given back before the end", pending.releases)
        return self.waiting

    async def _close_at_once(self) -> None:
        """Whole, even by who is being cancelled: before Python 3.11.3 a time-out in his task cancels him again."""
        await self._loop.create_task(self.close(0), name="closing the store")

    def _on_progress(self) -> None:
        assert self._durability is not None
        self._durability.look()
        self._moved.set()
        if self._journal is not None and self._journal.is_failing:
            self._journal.retry()  # at each beat at least: what waits for the disk must not wait for a request

    async def _settled(self, is_ready: Callable[[], bool]) -> None:
        """Until nothing is open, and everything is in the store for good."""
        while not (is_ready() and self._pending.is_settled):
            self._moved.clear()
            await self._moved.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close(LONGEST_SECONDS)

    async def hold(self, opened: Opened | OpenedText, accounts: Sequence[Account], *, times: int = 1) -> Refusal | None:
        """Set the request's money aside on all accounts, or on none and say which one refuses.

        It must fit `times` times into what is left.

        Raises StoreAway at once when the store is away or was wiped (StoreWiped), and after the timeout when it does
        not answer; then nothing is held, or will be given back.
        """
        return await self._ask(Hold(opened, accounts, times=times))

    def ask_hold(
        self, opened: Opened | OpenedText, accounts: Sequence[Account], *, waiter: Waiter, times: int = 1
    ) -> StoreAway | None:
        """The same for a waiter, who is called once, in a later turn; no future and no task is made.

        When he hears that it is held, the request is journalled too, with all that the same answer of the store grants.

        Returns the error, and calls nobody, where `hold` would raise at once. Who leaves before he was called says so:
        see `give_up`.
        """
        hold = Hold(opened, accounts, times=times)
        hold.waiter, hold.opens = waiter, self._journal is not None
        return self._pending.wiped() or self._connection.ask(hold)

    def give_up(self, entry_id: str) -> None:
        """Who asked for this hold has left: he hears nothing any more, and it is given back. Nothing where none is."""
        hold = self._pending.live.get(entry_id)
        if hold is None:
            return
        if hold.waiter is None or hold.is_kept:  # it was granted, and it may be journalled
            hold.waiter = None
            self.release(entry_id)
        else:
            self._connection.give_up(hold)

    def hold_later(self, opened: Opened | OpenedText, accounts: Sequence[Account]) -> None:
        """The same for a request that passes in any case: no budget refuses it, and nobody waits.

        While the store is away nothing is held; once it is back, what is still under way then is.
        """
        hold = self._pending.live[opened.id] = Hold(opened, accounts, times=0)
        self._connection.tell(hold)

    def hold_ahead(self, opened: Opened | OpenedText, accounts: Sequence[Account]) -> bool:
        """The same for a stream whose money was set aside ahead. If it was not, the store has to be asked."""
        return self._advances.take(opened, accounts)

    def clear_ahead(self, accounts: Sequence[Account]) -> Nanos:
        """Give back what is set aside ahead on any of these, before a request is refused; how much that was."""
        return self._advances.clear(accounts)

    def begin(self, entry_ids: Sequence[str]) -> Awaitable[None] | None:
        """Rule 1: journal requests that were held, before their first byte is sent. Raises JournalFailed: none is then.

        Returns what must be waited for first, if anything: where the store does not have a hold and is away, the
        journal alone must outlive this machine. Waiting raises JournalFailed too; then they are to be released.
        """
        holds = [self._pending.live[entry_id] for entry_id in entry_ids]
        if self._journal is None or self._unkept is None:
            return None
        self._pending.open(holds)
        if all(hold.is_kept for hold in holds):
            return None
        if not self._connection.is_connected:
            return self._journal.synced()
        self._unkept.add(holds)
        return None

    def release(self, entry_id: str) -> None:
        """Give a hold back: its request was never sent."""
        hold = self._pending.live.pop(entry_id, None)
        if hold is not None and hold.is_open and self._journal is not None:
            self._journal.drop(entry_id)
        self._connection.tell(Release(entry_id))

    def settle(
        self,
        entry: LedgerEntry | LineText,
        accounts: Sequence[Account],
        *,
        parked: str = "",
        on_charged: Callable[[], object] | None = None,
    ) -> None:
        """Drop the hold of this entry, charge the accounts, count it in the day's sums, write it to the ledger.

        All in one script, once, in the order in which they come, however long the store is away. The entry is written
        as it is: what it says in `moved` is the caller's. `parked` is the upstream's id of a request that was parked:
        all of it happens only if that still is, and `on_charged` is called only then.
        """
        try:
            charge = Charge(entry, accounts, parked=parked)
        except TooDear as problem:
            charge = problem.charge
            self._pending.on_set_aside(charge.skip(str(problem)))
            log.error("a ledger entry cannot be stored; it is set aside: %s", problem)  # noqa: TRY400 - a finding
        charge.on_charged = on_charged
        self._connection.tell(charge)

    def park(self, upstream_id: str, parked: Parked, opened: Opened) -> None:
        """Keep a request, and its hold, until somebody sees its end. In order with what is settled."""
        self._connection.tell(Park(parked, upstream_id, opened))

    async def check(self, accounts: Sequence[Account]) -> Refusal | None:
        """Is one of these used up? Raises StoreAway."""
        refusing = [account for account in accounts if account.budget.refuses]
        if not refusing:
            return None
        refusal = await self._ask(Check(refusing))
        if (wiped := self._pending.wiped()) is not None:
            raise wiped
        return refusal

    async def _ask(self, operation: Hold | Check) -> Refusal | None:
        operation.waiter = answer = Answer(self._loop)
        if (error := self._pending.wiped() or self._connection.ask(operation)) is not None:
            raise error
        try:
            return await answer.future
        except asyncio.CancelledError:
            self._connection.give_up(operation)
            raise

    @property
    def is_wiped(self) -> bool:
        """The store has lost what this proxy knew, or is another one, and nobody has acknowledged it."""
        return self._birth is not None and self._birth.is_strange

    @property
    def is_connected(self) -> bool:
        return self._connection.is_connected

    @property
    def waiting(self) -> int:
        """Charges that the store has not applied yet."""
        return self._pending.charges

    @property
    def set_aside(self) -> int:
        """Records that the store rejects for ever, kept in the directory. Not 0: somebody has to look."""
        return len(self._pending.set_aside) if self._aside is None else self._aside.count()
