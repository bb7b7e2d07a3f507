"""The order of operations: what waits, what is under way, and what an answer or a lost connection makes of it.

Charges are numbered by their writer, from what the store has counted: n applies only after n - 1. So one that comes
again is recognised, and one that is missing shows.
"""

import logging
from collections import deque
from collections.abc import Sequence
from typing import Any

from proxy.ledger.entry import LedgerEntry
from proxy.store.operations import Asked, Numbered, Operation, Release, text_of

BATCH = 64  # operations in one script call: about 2 ms of the store's time
log = logging.getLogger(__name__)


class Pending:
    """First in, first out. An operation leaves when the store has answered it for good."""

    def __init__(self) -> None:
        self.charges = 0
        """Settlements that the store has not applied yet."""
        self.set_aside: list[LedgerEntry] = []
        """Entries that the store rejects for ever."""
        self._queue: deque[Operation] = deque()
        self._under_way: list[Operation] = []
        self._counted = 0  # the last number that the store has confirmed
        self._given = 0  # the last number that was given to a charge
        self._knows_number = False
        self._alone = 0  # so many operations travel alone, to find the one that fails

    def __len__(self) -> int:
        return len(self._queue) + len(self._under_way)

    @property
    def counted(self) -> int:
        return self._counted

    def append(self, operation: Operation) -> None:
        if isinstance(operation, Numbered):
            self.charges += 1
        self._queue.append(operation)

    def take(self) -> list[Operation]:
        """The next batch; it stays under way until `answered`, `failed` or `put_back`."""
        assert not self._under_way
        size = 1 if self._alone else BATCH
        batch = self._under_way
        while self._queue and len(batch) < size:
            operation = self._queue.popleft()
            if isinstance(operation, Asked):
                if operation.given_up:
                    continue
                operation.sent = True
            elif isinstance(operation, Numbered) and operation.number is None:
                self._given += 1
                operation.number = self._given
            batch.append(operation)
        return batch

    def answered(self, answers: list[Any]) -> bool:
        """Each answer ends its operation, but a charge that came too early or was rejected goes on waiting.

        Returns whether anything ended.
        """
        batch, self._under_way = self._under_way, []
        self._alone = max(0, self._alone - len(batch))
        again: list[Operation] = []
        for operation, answer in zip(batch, answers, strict=True):
            if not isinstance(operation, Numbered):
                operation.read(answer)
            elif isinstance(answer, int):
                self._applied(operation)
            else:
                if not isinstance(answer, list):
                    self._reject(operation, text_of(answer))
                elif not again:
                    self._recount(int(answer[0]), batch)
                again.append(operation)
        self._queue.extendleft(reversed(again))
        return len(again) < len(batch)

    def failed(self, why: str) -> bool:
        """The script itself failed. All but one of the batch may be innocent: from now on each travels alone.

        Returns False when it is none of theirs: a charge fails of which only the number is left.
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
        return True

    def put_back(self) -> None:
        """The connection is lost: what was under way may have been applied or not, and is sent again."""
        self._queue.extendleft(reversed(self._under_way))
        self._under_way = []

    def reconcile(self, stored: int) -> None:
        """A new connection, before anything is sent on it: the number that the store has counted."""
        if not self._knows_number:
            self._knows_number = True
            self._counted = self._given = stored
        elif not self._counted <= stored <= self._given:
            self._recount(stored, ())

    def close(self, why: str) -> None:
        """Nothing will be sent any more."""
        self.put_back()
        for operation in self._queue:
            if isinstance(operation, Asked):
                operation.fail(why)

    @property
    def releases(self) -> int:
        """Holds that were given back, and that the store has not dropped yet."""
        return sum(isinstance(operation, Release) for operation in (*self._under_way, *self._queue))

    def _applied(self, charge: Numbered) -> None:
        assert charge.number is not None
        self._counted = charge.number
        self.charges -= 1

    def _reject(self, charge: Numbered, why: str) -> None:
        if charge.is_skipped:
            return
        log.error("the store rejects ledger entry %s for good; it is set aside: %s", charge.entry.id, why)
        self.set_aside.append(charge.entry)
        charge.is_skipped = True

    def _recount(self, stored: int, batch: Sequence[Operation]) -> None:
        """The store has another number than it confirmed: it was rolled back or emptied. Go on from what it has.

        What it confirmed and has lost again cannot be sent from here. What waits carries numbers that this store has
        not seen, so it has applied none of it.
        """
        log.error(
            "the store lost charges: it confirmed number %d and now has %d; going on from there", self._counted, stored
        )
        self._counted = self._given = stored
        for operation in (*batch, *self._queue):
            if isinstance(operation, Numbered):
                operation.number = None
