"""The store as the rest of the program sees it."""

import logging
from collections.abc import AsyncIterator, Sequence
from datetime import date, datetime
from typing import Self

from proxy.budgets import Account, Budget, Period
from proxy.errors import StoreAway, StoreRefused
from proxy.ledger.entry import LedgerEntry
from proxy.ledger.parked import Parked
from proxy.ledger.sums import SumRow
from proxy.store import caller_keys, leases
from proxy.store.address import Address
from proxy.store.caller_keys import CallerKey
from proxy.store.connection import OrderedConnection
from proxy.store.operations import Charge, Check, Hold, Park, Refusal, Release
from proxy.store.reads import LONGEST_SECONDS, Reads, Standing
from rates.money import Nanos

log = logging.getLogger(__name__)


class Store:
    """Holds and charges go over one ordered connection; reading and caller keys over another.

    Every method that waits raises StoreAway or StoreRefused and nothing else of the store's. The event loop that
    opened it is its own.
    """

    def __init__(self, url: str, *, writer: str, timeout: float) -> None:
        address = Address(url)
        self.shown_url = address.shown
        self._connection = OrderedConnection(address, writer, timeout)
        self._reads = Reads(Address(url), timeout)

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        writer: str,
        timeout: float,  # noqa: ASYNC109 - of every later answer, not of opening
        must_answer: bool = True,
    ) -> Self:
        """Connect. `writer` is nobody else's name; `timeout` is in seconds, for each answer that somebody waits for.

        Raises StoreRefused when the store cannot be used, and StoreAway when it does not answer, or, if it need not,
        comes back with a store that is away and goes on trying.
        """
        store = cls(url, writer=writer, timeout=timeout)
        try:
            error = await store._connection.attempted()
        except BaseException:
            await store.close(0)
            raise
        if error is not None and (must_answer or isinstance(error, StoreRefused)):
            await store.close(0)
            raise error
        return store

    async def close(self, drain: float) -> int:
        """Send what is pending for at most `drain` seconds. Returns the charges that did not reach the store."""
        await self._connection.close(drain)
        await self._reads.close()
        if self._connection.pending.releases:
            log.warning("%d holds were not given back before the end", self._connection.pending.releases)
        return self.waiting

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close(LONGEST_SECONDS)

    async def hold(self, entry_id: str, holds: Sequence[tuple[Account, Nanos]]) -> Refusal | None:
        """Set money aside on all accounts, or on none and say which one refuses.

        Raises StoreAway at once when the store is away, and after the timeout when it does not answer; then nothing
        is held, or will be given back.
        """
        return await self._connection.ask(Hold(entry_id, holds)) if holds else None

    def hold_later(self, entry_id: str, holds: Sequence[tuple[Account, Nanos]]) -> None:
        """The same without waiting for the answer: after a refusal, or with the store away, nothing is held."""
        if holds:
            self._connection.tell(Hold(entry_id, holds))

    def release(self, entry_id: str) -> None:
        """Give a hold back: its request was never sent."""
        self._connection.tell(Release(entry_id))

    def settle(self, entry: LedgerEntry, accounts: Sequence[Account], *, parked: str = "") -> None:
        """Drop the hold of this entry, charge the accounts, count it in the day's sums, write it to the ledger.

        `parked` is the upstream's id of a request that was parked: all of it happens only if that still is.

        All in one script, once, in the order in which they come, however long the store is away. The entry is written
        as it is: what it says in `moved` is the caller's.
        """
        try:
            charge = Charge(entry, accounts, parked=parked)
        except ValueError as error:  # more nanos than a script can add
            log.error("ledger entry %s cannot be stored; it is set aside: %s", entry.id, error)  # noqa: TRY400
            self.set_aside.append(entry)
            self.release(entry.id)
        else:
            self._connection.tell(charge)

    def park(self, entry: LedgerEntry, upstream_id: str, parked: Parked) -> None:
        """Keep a request, and its hold, until somebody sees its end. In order with what is settled."""
        self._connection.tell(Park(entry, upstream_id, parked))

    async def parked(self, upstream_id: str) -> list[Parked]:
        """The requests whose end a response with this id is. Raises StoreAway."""
        return await self._reads.parked(upstream_id)

    async def check(self, accounts: Sequence[Account]) -> Refusal | None:
        """Is one of these used up? Raises StoreAway."""
        refusing = [account for account in accounts if account.budget.refuses]
        return await self._connection.ask(Check(refusing)) if refusing else None

    @property
    def is_connected(self) -> bool:
        return self._connection.is_connected

    @property
    def waiting(self) -> int:
        """Charges that the store has not applied yet."""
        return self._connection.pending.charges

    @property
    def dropped_holds(self) -> int:
        """Holds that nobody waited for and that came while the store was away."""
        return self._connection.dropped_holds

    @property
    def set_aside(self) -> list[LedgerEntry]:
        """Entries that the store rejects for ever. Not empty: somebody has to look."""
        return self._connection.pending.set_aside

    async def ping(self) -> bool:
        """True when the store answers. Raises StoreAway or StoreRefused, which say why it does not."""
        return await self._reads.ping()

    async def read_accounts(self, accounts: Sequence[Account]) -> list[Standing]:
        """What each has spent and holds, in the order asked."""
        return await self._reads.standings(accounts)

    async def owners_of(self, budget: Budget, period: Period) -> list[str]:
        """Identities of the owners that have an account of a budget with `per = "owner"` in this period."""
        return await self._reads.owners_of(budget, period)

    async def read_sums(self, since: date, until: date) -> list[SumRow]:
        """The sums of the UTC days from `since` up to and without `until`."""
        return await self._reads.sums(since, until)

    def read_ledger(
        self, *, since: datetime | None = None, until: datetime | None = None
    ) -> AsyncIterator[LedgerEntry]:
        """Entries with `since` ≤ at < `until`, in the order in which they were applied."""
        return self._reads.ledger(since, until)

    async def create_key(self, owner: str) -> str:
        """A new taximeter key of this owner; it cannot be read again. Raises UsageError for a name that is reserved."""
        return await caller_keys.create(self._reads, owner)

    async def find_key(self, digest: str) -> str | None:
        """The owner of the key with this SHA-256 (hex), or None. Raises StoreAway at once when the store is away."""
        if not self._connection.is_connected:
            raise StoreAway(self._connection.why_away)
        return await caller_keys.find(self._reads, digest)

    async def list_keys(self) -> list[CallerKey]:
        return await caller_keys.listed(self._reads)

    async def revoke_key(self, which: str) -> CallerKey:
        """By id or by the key itself. Raises UsageError when there is no such key."""
        return await caller_keys.revoke(self._reads, which)

    async def take_lease(self, name: str, holder: str, seconds: float) -> bool:
        """Take a lease that is free, or prolong one's own; whether it is the holder's now."""
        return await leases.take(self._reads, name, holder, seconds)

    async def drop_lease(self, name: str, holder: str) -> None:
        """Give one's own lease up."""
        await leases.drop(self._reads, name, holder)
