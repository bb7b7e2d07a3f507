"""Tells a receiver once when a budget reaches a threshold: claimed in the store, repeated until it is accepted.

An event is (account, threshold, limit, receiver): a limit that is raised for a night has thresholds of its own.
"""

import hashlib
import logging
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from time import monotonic
from zoneinfo import ZoneInfo

import msgspec

from proxy.budgets import Budget, BudgetBook, Raises
from proxy.budgets.forecast import used_up_at
from proxy.budgets.glob import fits
from proxy.config import NotifyConfig
from proxy.jobs import webhook
from proxy.jobs.webhook import NotAccepted
from proxy.store import Standing, Store
from rates.money import EXACT, dollars_text, plain, usd_text

EVERY_SECONDS = 5.0
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 300.0  # seconds between two tries of the same event

log = logging.getLogger("taximeter")


class Notify:
    """One receiver's job."""

    def __init__(
        self,
        store: Store,
        book: BudgetBook,
        receiver: NotifyConfig,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        first_pause: float = FIRST_PAUSE,
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        self._store = store
        self._receiver = receiver
        self._now = now
        self._first_pause = first_pause
        self._digest = hashlib.sha256(receiver.url.reveal().encode()).hexdigest()[:16]  # names it, and tells nothing
        matching = [fits(glob) for glob in receiver.budgets]
        self._book = BudgetBook(each for each in book.budgets if any(glob(each.name) for glob in matching))
        self._accepted: set[tuple[str, str]] = set()  # (account, event): those that need not be asked for any more
        self._tries: dict[tuple[str, str], tuple[float, float]] = {}  # when to try again, and how long to wait then
        self.name = f"notify-{self._digest}"
        self.every_seconds = every_seconds

    async def run(self) -> None:
        """Look at every budget, and send what is due. Raises StoreError."""
        if not self._book.budgets:
            return
        raises = Raises(await self._store.read_raises())
        now = self._now()
        standings = await self._store.standings(self._book.with_raises(raises), now)
        current = {standing.account.key for standing in standings}
        self._accepted = {each for each in self._accepted if each[0] in current}  # a period that is over is done with
        self._tries = {each: when for each, when in self._tries.items() if each[0] in current}
        for standing in standings:
            for threshold in reached(standing):
                await self._tell(standing, threshold, now)

    async def _tell(self, standing: Standing, threshold: Decimal, now: datetime) -> None:
        account = standing.account
        event = f"{plain(threshold)}/{account.budget.limit}/{self._digest}"
        which = (account.key, event)
        when, pause = self._tries.get(which, (0.0, self._first_pause))
        if which in self._accepted or monotonic() < when:
            return
        told = await self._store.claim_told(account, event, now)
        if told.accepted is None:
            body = message(standing, threshold, told.id, now, self._receiver.format)
            try:
                timestamp = int(now.timestamp())
                await webhook.post(self._receiver.url, self._receiver.secret, told.id, timestamp, body)
            except NotAccepted as reason:
                self._again(which, pause, f"{threshold:%} of budget {account.budget.name}", reason)
                return
            await self._store.accept_told(account, event, told, self._now())
            where = webhook.shown(self._receiver.url)
            log.info("%s was told of %s of budget %s", where, f"{threshold:%}", account.budget.name)
        self._accepted.add(which)

    def _again(self, which: tuple[str, str], pause: float, what: str, reason: NotAccepted) -> None:
        wait = pause * random.uniform(0.75, 1.25)  # noqa: S311 - no secret
        self._tries[which] = (monotonic() + wait, min(2 * pause, LONGEST_PAUSE))
        where = webhook.shown(self._receiver.url)
        log.warning("%s did not accept the news of %s (%s); it is told again in %.0f s", where, what, reason, wait)


def reached(standing: Standing) -> Iterator[Decimal]:
    """The thresholds that the spend has reached, the lowest first. A limit of zero has no shares."""
    limit = standing.account.budget.limit
    for threshold in standing.account.budget.alert_at:
        if limit and standing.spent >= EXACT.multiply(threshold, Decimal(limit)):
            yield threshold


def message(standing: Standing, threshold: Decimal, event_id: str, now: datetime, format_: str) -> bytes:
    """The body: JSON as Slack and its like take it, or all that is known as data."""
    if format_ == "slack":
        return msgspec.json.encode({"text": f"{_sentence(standing, threshold, now)} (event {event_id})"})
    account = standing.account
    budget, period = account.budget, account.period
    used_up = used_up_at(standing.spent, budget.limit, period, now)
    return msgspec.json.encode(
        {
            "type": "budget.threshold_reached",
            "id": event_id,
            "timestamp": _utc(now),
            "data": {
                "budget": budget.name,
                "owner": standing.owner_name,
                "period": budget.period.value,
                "period_id": period.id,
                "threshold": plain(threshold),
                "limit_usd": usd_text(budget.limit),
                "spent_usd": usd_text(standing.spent),
                "held_usd": usd_text(standing.held),
                "on_exceed": budget.on_exceed,
                "resets_at": None if period.end is None else _utc(period.end),
                "used_up_at": None if used_up is None else _utc(used_up),
                "text": _sentence(standing, threshold, now),
            },
        }
    )


def _sentence(standing: Standing, threshold: Decimal, now: datetime) -> str:
    """For people: times in the budget's own zone."""
    account = standing.account
    budget, period = account.budget, account.period
    whose = f" of {standing.owner_name}" if standing.owner_name else ""
    used = f"{dollars_text(standing.spent)} of {dollars_text(budget.limit)} used"
    parts = [f"Budget {budget.name}{whose} ({period.id}) has reached {plain(threshold * 100)}%: {used}."]
    used_up = used_up_at(standing.spent, budget.limit, period, now)
    if standing.spent >= budget.limit:
        parts.append("Requests are refused." if budget.refuses else "Requests still pass.")
    elif used_up is not None:
        parts.append(f"At this pace it is used up on {_local(used_up, budget)}.")
    if period.end is not None:
        parts.append(f"It resets on {_local(period.end, budget)}.")
    return " ".join(parts)


def _local(at: datetime, budget: Budget) -> str:
    return at.astimezone(ZoneInfo(budget.timezone)).strftime("%Y-%m-%d at %H:%M %Z")


def _utc(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
