"""What a worker counts in one turn of its event loop, written to the metrics' files together at its end."""

from bisect import bisect_left
from collections.abc import Callable
from typing import Protocol

from prometheus_client import Counter, Gauge, Histogram


class Due(Protocol):
    """Has counted something that its file does not have yet."""

    def pay(self) -> None: ...


class Turn:
    """Counts of one turn of the event loop, written together at its end.

    Many requests end in the same turn, and count the same things. A worker that is killed has counted all that its
    earlier turns did.
    """

    def __init__(
        self, at_the_end: Callable[[Callable[[], None]], object] | None, on_paid: Callable[[], object] | None = None
    ) -> None:
        self._at_the_end = at_the_end
        self._on_paid = on_paid
        self._due: list[Due] = []

    def owe(self, due: Due) -> None:
        self._due.append(due)
        if self._at_the_end is None:
            self.pay()
        elif len(self._due) == 1:
            self._at_the_end(self.pay)

    def pay(self) -> None:
        due, self._due = self._due, []
        for each in due:
            each.pay()
        if self._on_paid is not None:
            self._on_paid()


class Tally:
    """A counter's or gauge's child, resolved once. `add` costs an addition."""

    __slots__ = ("_amount", "_child", "_is_due", "_turn")

    def __init__(self, child: Counter | Gauge, turn: Turn) -> None:
        self._child = child
        self._turn = turn
        self._amount = 0.0
        self._is_due = False

    def add(self, amount: float) -> None:
        self._amount += amount
        if not self._is_due:
            self._is_due = True
            self._turn.owe(self)

    def pay(self) -> None:
        amount, self._amount, self._is_due = self._amount, 0.0, False
        if amount:
            self._child.inc(amount)


class Spread:
    """A histogram without labels."""

    __slots__ = ("_histogram", "_turn", "_values")

    def __init__(self, histogram: Histogram, turn: Turn) -> None:
        self._histogram = histogram
        self._turn = turn
        self._values: list[float] = []

    def observe(self, value: float) -> None:
        self._values.append(value)
        if len(self._values) == 1:
            self._turn.owe(self)

    def pay(self) -> None:
        observed, self._values = self._values, []
        if len(observed) == 1:
            self._histogram.observe(observed[0])
            return
        # The library has no call for many at once: these are what its `observe` adds to.
        counts = [0] * len(self._histogram._upper_bounds)  # noqa: SLF001
        for value in observed:
            counts[bisect_left(self._histogram._upper_bounds, value)] += 1  # noqa: SLF001
        for bucket, count in zip(self._histogram._buckets, counts, strict=True):  # noqa: SLF001
            if count:
                bucket.inc(count)
        self._histogram._sum.inc(sum(observed))  # noqa: SLF001


class Latest:
    """A gauge's child that holds a time: the last one of a turn is written."""

    __slots__ = ("_child", "_turn", "_value")

    def __init__(self, child: Gauge, turn: Turn) -> None:
        self._child = child
        self._turn = turn
        self._value: float | None = None

    def set(self, value: float) -> None:
        is_first, self._value = self._value is None, value
        if is_first:
            self._turn.owe(self)

    def pay(self) -> None:
        value, self._value = self._value, None
        if value is not None:
            self._child.set(value)
