"""A budget with `backfill = true`: lines of the ledger that do not name it are counted for it, each once.

Lines are deltas, so this is a plain sum over those that match, of any kind. How far it came stands in the store beside
the sums, and both move in one script: whoever goes on, goes on there.
"""

from collections import defaultdict
from datetime import datetime
from importlib.resources import files

from proxy.budgets import Account, Budget, BudgetBook, Owner, Period
from proxy.budgets.account import series_of
from proxy.errors import StoreRefused
from proxy.ledger.entry import LedgerEntry
from proxy.store import keys
from proxy.store.ledger import CLOCK_SKEW, Ledger, after, place_at
from proxy.store.packing import pack
from proxy.store.reads import LONGEST_SECONDS, Reads
from rates import parse_model_name
from rates.money import Nanos

_SOURCE = files("proxy.store").joinpath("backfill.lua").read_bytes()
_SOMEBODY_ELSE, _TRIMMED = 0, -1


class Unread(StoreRefused):
    """Lines that should count are trimmed: they are only in checkpoint sums."""


async def is_begun(reads: Reads, budget: Budget, period: Period) -> bool:
    """Whether lines of this period were counted for it before."""
    found = await reads.call("HGET", keys.BACKFILLED, series_of(budget, period))
    return found is not None


async def refuse_trimmed(reads: Reads, budget: Budget, period: Period) -> None:
    """Raise Unread when the ledger has not all lines any more that would have to be counted from the beginning."""
    if await is_begun(reads, budget, period):
        return
    until = (await Ledger(reads).span()).trimmed_until
    if until is not None and (period.start is None or until >= period.start - CLOCK_SKEW):
        raise _unread(budget)


async def count_on(reads: Reads, book: BudgetBook, budget: Budget, now: datetime) -> Nanos:
    """Count for this budget what the ledger has of its running period and was not counted yet; how much that was.

    Raises Unread where that cannot be exact any more. `book` finds what a line belongs to.
    """
    period = book.period(budget, now)
    series = series_of(budget, period)
    oldest = "" if period.start is None else place_at(period.start)
    place = (await reads.call("HGET", keys.BACKFILLED, series) or b"").decode()
    done = 0
    async for page in Ledger(reads).forwards(after(place.encode()) if place else oldest or "-"):
        sums: defaultdict[Account, Nanos] = defaultdict(int)
        for line in page:
            entry = line.entry
            account = account_of(entry, book, budget, period)
            if account is not None and entry.cost_nanos:
                sums[account] += entry.cost_nanos
        last = page[-1].place.decode()
        expires = "" if period.end is None else str(int(period.end.timestamp()) + keys.KEPT_AFTER_PERIOD_SECONDS)
        amounts = [part for each, nanos in sums.items() for part in (each.key, str(nanos), each.owner_identity or "")]
        needed = f"{oldest}-0" if oldest else ""
        answer = await reads.call(
            *("EVAL", _SOURCE, 3, keys.BACKFILLED, keys.OPENING, keys.TRIMMED),
            *(keys.COMMITTED, keys.HELD, keys.OWNERS, series, place, last, needed, expires, pack(amounts)),
            seconds=LONGEST_SECONDS,
        )
        if answer == _TRIMMED:
            raise _unread(budget)
        if answer == _SOMEBODY_ELSE:  # or the answer to the first of two questions was lost
            return done
        place = last
        done += sum(sums.values())
    return done


def account_of(entry: LedgerEntry, book: BudgetBook, budget: Budget, period: Period) -> Account | None:
    """The account of this budget that a line should have moved and did not. None: it is none of its business."""
    at = datetime.fromisoformat(entry.at)
    if not period.holds(at):
        return None
    names = tuple(dict.fromkeys(name for name in (entry.asked_model, entry.served_model) if name))
    fine_tuned = parse_model_name(entry.served_model).fine_tuned if entry.served_model else None
    owner = Owner(entry.owner, entry.identity or entry.owner)
    if budget not in book.budgets_for(owner, names, fine_tuned):
        return None
    account = Account(budget, period, owner.identity if budget.per_owner else None)
    return None if any(moved.period == account.key for moved in entry.moved) else account


def _unread(budget: Budget) -> Unread:
    return Unread(
        f'budget "{budget.name}": backfill = true needs every ledger line of its running period, and some were trimmed '
        "(ledger_days, ledger_max_entries): leave backfill out, and it counts from now on"
    )
