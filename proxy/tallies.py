"""What a worker counts in one turn of its event loop, written to the metrics' files together at its end."""

from bisect import bisect_left
from collections.abc import Callable
from datetime import datetime
from struct import Struct
from typing import Any, Final, Protocol

from prometheus_client import Counter, Gauge, Histogram

from rates.money import NANOS_PER_USD, Nanos


class Due(Protocol):
    """Has counted something that its file does not have yet."""

    def pay(self) -> None: ...


class Turn:
    """Counts of one turn of the event loop, written together at its end.

    Many requests end in the same turn, and count the same things. A worker that is killed has counted all that its
    earlier turns did. One that is killed while it writes has counted a part, which nobody can tell: so `before` does
    what may take long, and between it and `after` stand a few microseconds of writes to memory.
    """

    def __init__(
        self,
        at_the_end: Callable[[Callable[[], None]], object] | None,
        *,
        before: Callable[[], object] | None = None,
        after: Callable[[], object] | None = None,
    ) -> None:
        self._at_the_end = at_the_end
        self._before = before
        self._after = after
        self._due: list[Due] = []

    def owe(self, due: Due) -> None:
        self._due.append(due)
        if self._at_the_end is None:
            self.pay()
        elif len(self._due) == 1:
            self._at_the_end(self.pay)

    def pay(self) -> None:
        due, self._due = self._due, []
        if self._before is not None:
            self._before()
        for each in due:
            each.pay()
        if self._after is not None:
            self._after()


class Place:
    """Where the value of a child stands: in memory, or in a worker's file, where its `inc` costs three times as much.

    The library has no call for one writer that never forks: this is what its `inc` and `set` write.
    """

    __slots__ = ("_file", "_position", "_value")

    def __init__(self, value: Any) -> None:
        self._value = value
        self._file = getattr(value, "_file", None)
        self._position: int = 0 if self._file is None else self._file._positions[value._key]  # noqa: SLF001

    def add(self, amount: float) -> None:
        value = self._value
        if self._file is None:
            value.inc(amount)
            return
        value._value = total = value._value + amount  # noqa: SLF001
        _TWO_DOUBLES.pack_into(self._file._m, self._position, total, 0.0)  # noqa: SLF001 - another one when it grows

    def put(self, amount: float) -> None:
        value = self._value
        if self._file is None:
            value.set(amount)
            return
        value._value = amount  # noqa: SLF001
        _TWO_DOUBLES.pack_into(self._file._m, self._position, amount, 0.0)  # noqa: SLF001


_TWO_DOUBLES: Final = Struct("dd")


def place_of(child: Counter | Gauge) -> Place:
    return Place(child._value)  # noqa: SLF001


class Tally:
    """A counter's or gauge's child, resolved once. `add` costs an addition."""

    __slots__ = ("_amount", "_is_due", "_place", "_turn")

    def __init__(self, child: Counter | Gauge, turn: Turn) -> None:
        self._place = place_of(child)
        self._turn = turn
        self._amount: float = 0.0
        self._is_due = False

    def add(self, amount: float) -> None:
        self._amount += amount
        if not self._is_due:
            self._is_due = True
            self._turn.owe(self)

    def pay(self) -> None:
        amount, self._amount, self._is_due = self._amount, 0.0, False
        if amount:
            self._place.add(amount)


class Uses:
    """What requests with the same labels used and cost, and when the last one began: one count for each request.

    Children are resolved when they are first counted: before that they have no series.
    """

    __slots__ = (
        "_amounts", "_at", "_cost", "_cost_of", "_is_due", "_last_used", "_nanos", "_tokens", "_tokens_of", "_turn",
    )  # fmt: skip

    def __init__(
        self,
        turn: Turn,
        *,
        last_used: Gauge,
        cost: Callable[[], Counter],
        tokens: Callable[[str], Counter],
    ) -> None:
        self._turn = turn
        self._last_used = place_of(last_used)
        self._cost_of = cost
        self._tokens_of = tokens
        self._cost: Place | None = None
        self._tokens: dict[str, Place] = {}
        self._amounts: dict[str, int] = {}  # of kinds that have their places
        self._nanos = 0
        self._at: datetime | None = None
        self._is_due = False

    def add(self, usage: dict[str, int], nanos: int | None, at: datetime) -> None:
        """`nanos` None: nobody knows the cost."""
        amounts, places = self._amounts, self._tokens
        for kind, quantity in usage.items():
            if kind not in places:
                places[kind] = place_of(self._tokens_of(kind))
            amounts[kind] = amounts.get(kind, 0) + quantity
        if nanos is not None:
            self._nanos += nanos
            if self._cost is None:
                self._cost = place_of(self._cost_of())
        self._at = at
        if not self._is_due:
            self._is_due = True
            self._turn.owe(self)

    def pay(self) -> None:
        amounts, self._amounts, self._is_due = self._amounts, {}, False
        places = self._tokens
        for kind, amount in amounts.items():
            places[kind].add(amount)
        if self._nanos and self._cost is not None:
            nanos, self._nanos = self._nanos, 0
            self._cost.add(dollars_of(nanos))
        if self._at is not None:
            self._last_used.put(self._at.timestamp())


def dollars_of(nanos: Nanos) -> float:
    """The one place where money becomes a float: Prometheus knows no other number. Rounded once, as any quotient."""
    return nanos / NANOS_PER_USD


class Spread:
    """A histogram without labels."""

    __slots__ = ("_bounds", "_buckets", "_sum", "_turn", "_values")

    def __init__(self, histogram: Histogram, turn: Turn) -> None:
        # The library has no call for many at once: these are what its `observe` adds to.
        self._bounds = histogram._upper_bounds  # noqa: SLF001
        self._buckets = [Place(bucket) for bucket in histogram._buckets]  # noqa: SLF001
        self._sum = Place(histogram._sum)  # noqa: SLF001
        self._turn = turn
        self._values: list[float] = []

    def observe(self, value: float) -> None:
        self._values.append(value)
        if len(self._values) == 1:
            self._turn.owe(self)

    def pay(self) -> None:
        observed, self._values = self._values, []
        for value in observed:
            self._buckets[bisect_left(self._bounds, value)].add(1)
        self._sum.add(sum(observed))
