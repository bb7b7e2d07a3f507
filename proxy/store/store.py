"""The store as the rest of the program sees it."""

from collections.abc import AsyncIterator, Sequence
from datetime import date, datetime, timedelta

from proxy.budgets import Account, Budget, BudgetBook, Period, Raise
from proxy.errors import StoreAway
from proxy.ledger.entry import LedgerEntry
from proxy.ledger.parked import Parked
from proxy.ledger.sums import SumRow
from proxy.store import backfill, birth, caller_keys, keys, leases, ledger_trim, raises, told
from proxy.store.caller_keys import CallerKey
from proxy.store.ledger import Ledger
from proxy.store.reads import Standing
from proxy.store.told import Told
from proxy.store.writing import Writing
from rates.money import Nanos


class Store(Writing):
    """Holds and charges go over one ordered connection (see Writing); reading and caller keys over another.

    Every method that waits raises StoreAway or StoreRefused and nothing else of the store's. The event loop that
    opened it is its own.
    """

    async def parked(self, upstream_id: str) -> list[Parked]:
        """The requests whose end a response with this id is. Raises StoreAway."""
        return await self._reads.parked(upstream_id)

    async def ping(self) -> bool:
        """True when the store answers. Raises StoreAway or StoreRefused, which say why it does not."""
        return await self._reads.ping()

    async def read_accounts(self, accounts: Sequence[Account]) -> list[Standing]:
        """What each has spent and holds, in the order asked."""
        return await self._reads.standings(accounts)

    async def standings(self, book: BudgetBook, at: datetime) -> list[Standing]:
        """Every budget's account in its running period; one an owner for budgets with `per = "owner"`."""
        accounts: list[Account] = []
        for budget in book.budgets:
            owners = await self.owners_of(budget, book.period(budget, at)) if budget.per_owner else [""]
            accounts += [book.account(budget, identity, at) for identity in owners]
        return await self.read_accounts(accounts) if accounts else []

    async def owners_of(self, budget: Budget, period: Period) -> list[str]:
        """Identities of the owners that have an account of a budget with `per = "owner"` in this period."""
        return await self._reads.owners_of(budget, period)

    async def read_sums(self, since: date, until: date) -> list[SumRow]:
        """The sums of the UTC days from `since` up to and without `until`."""
        return await self._reads.sums(since, until)

    def read_ledger(
        self, *, since: datetime | None = None, until: datetime | None = None
    ) -> AsyncIterator[LedgerEntry]:
        """Lines with `since` ≤ at < `until`, in the order in which they were applied."""
        return Ledger(self._reads).entries(since, until)

    async def create_key(self, owner: str, *, expires: datetime | None = None, models: Sequence[str] = ()) -> str:
        """A new taximeter key of this owner; it cannot be read again. Raises UsageError for a name that is reserved."""
        return await caller_keys.create(self._reads, owner, expires=expires, models=models)

    async def find_key(self, digest: str) -> CallerKey | None:
        """The key with this SHA-256 (hex), or None. Raises StoreAway at once when the store is away."""
        if not self._connection.is_connected:
            raise StoreAway(self._connection.why_away)
        return await caller_keys.find(self._reads, digest)

    async def list_keys(self) -> list[CallerKey]:
        return await caller_keys.listed(self._reads)

    async def revoke_key(self, which: str) -> CallerKey:
        """By id or by the key itself. Raises UsageError when there is no such key."""
        return await caller_keys.revoke(self._reads, which)

    async def raise_limit(self, raised: Raise, *, before: Nanos, now: datetime) -> None:
        """Give a budget a higher limit for a time, and write down who did it and why. `before`: what held so far."""
        await raises.write(self._reads, raised, before=before, now=now)

    async def read_raises(self) -> list[Raise]:
        """All raised limits, those that have ended too."""
        return await raises.read(self._reads)

    async def backfill(self, book: BudgetBook, budget: Budget, now: datetime) -> Nanos:
        """Count for this budget of the book what the ledger has of its running period and was not counted yet.

        Returns how much that was. Raises StoreRefused where some of it was trimmed.
        """
        return await backfill.count_on(self._reads, book, budget, now)

    async def refuse_trimmed(self, budget: Budget, period: Period) -> None:
        """Raise StoreRefused when a backfill of this budget would have to begin, and lines for it were trimmed."""
        await backfill.refuse_trimmed(self._reads, budget, period)

    async def claim_told(self, account: Account, event: str, at: datetime) -> Told:
        """An event of this account that somebody is to be told of: claimed now, or as it was claimed before."""
        return await told.claim(self._reads, account, event, at)

    async def accept_told(self, account: Account, event: str, claimed: Told, at: datetime) -> None:
        """Whoever was to be told has accepted it."""
        await told.accept(self._reads, account, event, claimed, at)

    async def revision(self) -> bytes | None:
        """Another value after each change of keys and raises. Raises StoreAway at once when the store is away."""
        if not self._connection.is_connected:
            raise StoreAway(self._connection.why_away)
        found: bytes | None = await self._reads.call("GET", keys.REVISION)
        return found

    async def acknowledge(self, who: str, why: str | None, at: datetime) -> bool:
        """Take this store for the right one, on this proxy, and write that down; whether another one was known."""
        if self._birth is None or not await birth.acknowledge(self._reads, self._birth):
            return False
        await raises.note(self._reads, {"at": at, "who": who, "action": "acknowledge", "why": why})
        return True

    async def take_lease(self, name: str, holder: str, seconds: float) -> bool:
        """Take a lease that is free, or prolong one's own; whether it is the holder's now."""
        return await leases.take(self._reads, name, holder, seconds)

    async def drop_lease(self, name: str, holder: str) -> None:
        """Give one's own lease up."""
        await leases.drop(self._reads, name, holder)

    async def trim_ledger(self, *, keep: timedelta, most: int) -> int:
        """Fold lines that are older, or too many, into checkpoint sums. Returns how many."""
        return await ledger_trim.trim(self._reads, keep=keep, most=most)
