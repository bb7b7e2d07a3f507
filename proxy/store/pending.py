"""The order of operations: what waits, what is under way, and what an answer or a lost connection makes of it.

The journal numbers what a writer has finished: n applies only after n - 1. So a record that comes again is recognised,
and one that is missing shows. Records stay here until they are durable: a store that comes back without them gets them
again (rule 7).
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from proxy.errors import JournalFailed, StoreAway, StoreWiped
from proxy.store.asking import Asked, tell
from proxy.store.finished import Numbered, SetAside
from proxy.store.operations import Advance, Beat, Check, Hold, Operation, Release, Reverse, text_of
from proxy.store.record import Record, Unjournalled

BATCH = 64  # operations in one script call: about 2 ms of the store's time
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store has of a writer, read on a new connection: nothing older can change it any more."""

    number: int
    holds: frozenset[str]
    presumed: frozenset[str]


class GapFoundError(Exception):
    """The store misses records that it had confirmed: it was rolled back. A new connection reconciles."""


def _not_wiped() -> StoreWiped | None:
    return None


class Pending:
    """First in, first out. An operation leaves when the store has answered it for good."""

    def __init__(self, journal: Record | None = None) -> None:
        self.charges = 0
        """Settlements that the store has not applied yet."""
        self.live: dict[str, Hold] = {}
        """The requests that are neither finished nor given back."""
        self.set_aside: list[SetAside] = []
        """What the store rejects for ever."""
        self.on_set_aside: Callable[[SetAside], object] = self.set_aside.append
        self.wiped: Callable[[], StoreWiped | None] = _not_wiped
        """Why nothing may be held on the store that answers."""
        self.counted = 0
        """The number of the last record that was applied."""
        self.durable = 0
        """The number up to which the store will not lose them."""
        self._journal = journal or Unjournalled()
        self._queue: deque[Operation] = deque()
        self._under_way: list[Operation] = []
        self._applied: deque[Numbered] = deque()  # in order, from durable + 1 to counted
        self._alone = 0  # so many operations travel alone, to find the one that fails

    def __len__(self) -> int:
        return len(self._queue) + len(self._under_way)

    @property
    def under_way(self) -> Sequence[Operation]:
        """The batch that was taken and is not answered yet."""
        return self._under_way

    @property
    def is_settled(self) -> bool:
        """Everything is in the store for good, and nothing is open."""
        return not self.live and not len(self) and self.durable == self._journal.last_number

    def open(self, holds: Sequence[Hold]) -> None:
        """Rule 1: journal them, in one write, before their first byte is sent. Raises JournalFailed: none is then."""
        self._journal.open([(hold.entry_id, hold.record.encode()) for hold in holds])
        for hold in holds:
            hold.is_open = True

    def append(self, operation: Operation) -> None:
        """A finished request is journalled here, if it does not come from there."""
        if isinstance(operation, Numbered):
            self.live.pop(operation.entry_id, None)
            if operation.number is None:
                operation.number = self._journal.done(operation.entry_id, operation.body)
            self.charges += 1
        self._queue.append(operation)

    def beat(self) -> None:
        """Say that the writer lives, before all that waits: catching up must not look like being dead."""
        self._queue.appendleft(Beat())

    def take(self) -> list[Operation]:
        """The next batch; it stays under way until `answered`, `failed` or `put_back`.

        What the journal has gathered is written first: else a number that the store has could be given once more by
        whoever adopts the journal of a process that was killed. (A full disk does not keep it back.)
        """
        assert not self._under_way
        self._journal.retry()
        size = 1 if self._alone else BATCH
        batch = self._under_way
        while self._queue and len(batch) < size:
            operation = self._queue.popleft()
            if isinstance(operation, Asked):
                if operation.given_up:
                    continue
                operation.sent = True
            batch.append(operation)
        return batch

    def answered(self, answers: list[Any]) -> bool:
        """Each answer ends its operation, but a record that came too early or was rejected goes on waiting.

        Then tells all who wait. Returns whether anything ended. Raises GapFoundError.
        """
        batch, self._under_way = self._under_way, []
        self._alone = max(0, self._alone - len(batch))
        again: list[Operation] = []
        asked: list[Hold | Check] = []
        is_rolled_back = False
        for operation, answer in zip(batch, answers, strict=True):
            if not isinstance(operation, Numbered):
                operation.read(answer)
                if isinstance(operation, Asked) and operation.waiter is not None:
                    asked.append(operation)
            elif isinstance(answer, int):
                self._count(operation, answer)
            else:
                if isinstance(answer, list):
                    is_rolled_back = is_rolled_back or not again
                else:
                    self._reject(operation, text_of(answer))
                again.append(operation)
        if again:
            self._queue.extendleft(reversed(again))
        if asked:
            self._tell(asked)
        if is_rolled_back:
            raise GapFoundError
        return len(again) < len(batch)

    def failed(self, why: str) -> bool:
        """The script itself failed. All but one of the batch may be innocent: from now on each travels alone.

        Returns False when it is none of theirs: a record fails of which only the number is left.
        """
        batch = self._under_way
        if len(batch) > 1:
            self._alone = len(batch)
            self.put_back()
            return True
        [operation] = batch
        if isinstance(operation, Numbered):
            self.put_back()
            if operation.is_skipped:
                return False
            self._reject(operation, why)
        else:
            self._under_way = []
            self._alone = max(0, self._alone - 1)
            operation.read(why.encode())
            if isinstance(operation, Asked) and operation.waiter is not None:
                self._tell([operation])
        return True

    def put_back(self) -> None:
        """The connection is lost: what was under way may have been applied or not, and is sent again."""
        self._queue.extendleft(reversed(self._under_way))
        self._under_way = []

    def rewind(self, stored: int) -> int:
        """Rule 7, on a new connection before anything is sent on it: what the store has lost is sent again.

        `stored` is the number that it has. Returns the number that it must have.
        """
        assert not self._under_way
        if stored > self._journal.last_number:
            self._journal.continue_after(stored)
            self.counted = self.durable = stored
            return stored
        lost = [record for record in self._applied if _number(record) > stored]
        if lost:
            log.warning("the store lost %d records that it had applied; they are sent again", len(lost))
            self._applied = deque(record for record in self._applied if _number(record) <= stored)
            self._queue.extendleft(reversed(lost))
            self.charges += len(lost)
        if stored < self.durable:
            log.error(
                "the store lost records that it had confirmed: it has number %d of %d; going on from there",
                stored,
                self.durable,
            )
            stored = self.durable
        self.counted = stored
        return stored

    def mend(self, stored: Stored) -> None:
        """Rule 7, after that: holds and presumed entries that nobody here knows go, missing holds are made again."""
        # Who waited in vain, and was let through: what was to be given back is needed again.
        waiting = [each for each in self._queue if not (isinstance(each, Release) and each.entry_id in self.live)]
        self._queue = deque(waiting)
        unapplied = {each.entry_id for each in self._queue if isinstance(each, Numbered)}
        asked = {each.entry_id for each in self._queue if isinstance(each, Hold) and not each.given_up}
        known = unapplied | self.live.keys()
        mending: list[Operation] = [Release(each) for each in stored.holds - known]
        mending += [Reverse(each) for each in stored.presumed - known]
        there = stored.holds | stored.presumed | asked
        for entry_id in self.live.keys() - there:
            hold = self.live[entry_id]
            if isinstance(hold, Advance):  # what was taken out of it is held again, each for itself
                hold.left = 0
                del self.live[entry_id]
            else:
                mending.append(hold.again())
        self._queue.extendleft(mending)

    def confirm(self, number: int) -> None:
        """The store will not lose the records up to this one."""
        self.durable = max(self.durable, number)
        while self._applied and _number(self._applied[0]) <= number:
            self._applied.popleft()
        self._journal.confirm(number)

    def close(self, why: str) -> None:
        """Nothing will be sent any more."""
        self.put_back()
        for operation in self._queue.copy():
            if isinstance(operation, Asked) and operation.waiter is not None:
                self.give_up(operation, StoreAway(why))

    def give_up(self, asked: Asked, error: StoreAway | None = None) -> None:
        """Nobody waits for it any more. With an error, who waited is told."""
        waiter, asked.waiter = asked.waiter, None
        asked.given_up = True
        if isinstance(asked, Hold):
            self.live.pop(asked.entry_id, None)
            if asked.sent:
                self.append(Release(asked.entry_id))
        if waiter is not None and error is not None:
            tell(waiter, error)

    def _tell(self, asked: Sequence[Hold | Check]) -> None:
        """What the store has said, to those who wait."""
        granted = [each for each in asked if isinstance(each, Hold) and each.outcome is None]
        if granted:
            self._open_granted(granted)
        for each in asked:
            waiter, each.waiter = each.waiter, None
            if waiter is None:
                continue  # somebody who was told just now has given it up
            if each.outcome is not None and isinstance(each, Hold):
                self.live.pop(each.entry_id, None)
                if each.is_kept:
                    self.append(Release(each.entry_id))
            tell(waiter, each.outcome)

    def _open_granted(self, granted: Sequence[Hold]) -> None:
        """Those whose waiters are to hear that they are journalled. What may not pass gets an `outcome`."""
        if (wiped := self.wiped()) is not None:  # since it was asked
            for hold in granted:
                hold.outcome = wiped
            return
        opening = [hold for hold in granted if hold.opens]
        if not opening:
            return
        try:
            self.open(opening)
        except JournalFailed as error:
            for hold in opening:
                hold.outcome = error

    @property
    def releases(self) -> int:
        """Holds that were given back, and that the store has not dropped yet."""
        return sum(isinstance(operation, Release) for operation in (*self._under_way, *self._queue))

    def _count(self, record: Numbered, answer: int) -> None:
        record.read(answer)
        number = record.number
        assert number is not None  # it was journalled
        self.counted = max(self.counted, number)
        self.charges -= 1
        self._applied.append(record)

    def _reject(self, record: Numbered, why: str) -> None:
        if record.is_skipped:
            return
        log.error("the store rejects ledger entry %s for good; it is set aside: %s", record.entry_id, why)
        self.on_set_aside(record.skip(why))


def _number(record: Numbered) -> int:
    assert record.number is not None  # it was journalled
    return record.number
