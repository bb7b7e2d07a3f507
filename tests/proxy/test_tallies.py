"""Counts of one turn are written together, exactly, and those of a histogram fall into the same buckets."""

from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from proxy.tallies import Latest, Spread, Tally, Turn

VALUES = (0.05, 0.1, 0.1000001, 0.5, 1.0, 7.0)


def test_a_turn_is_paid_once_for_all_that_was_counted_in_it() -> None:
    ends: list[Callable[[], None]] = []
    registry = CollectorRegistry()
    counter, gauge = Counter("c", "-", registry=registry), Gauge("g", "-", registry=registry)
    turn = Turn(ends.append)
    tally, latest = Tally(counter, turn), Latest(gauge, turn)

    for number in range(3):
        tally.add(2)
        latest.set(number)
    assert registry.get_sample_value("c_total") == 0
    [end] = ends
    end()
    assert registry.get_sample_value("c_total") == 6
    assert registry.get_sample_value("g") == 2

    tally.add(1)
    assert len(ends) == 2
    ends[1]()
    assert registry.get_sample_value("c_total") == 7


@pytest.mark.parametrize("together", [False, True])
def test_a_spread_is_what_the_histogram_itself_would_show(together: bool) -> None:
    ends: list[Callable[[], None]] = []
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    buckets = (0.1, 0.5, 1.0)
    spread = Spread(Histogram("h", "-", registry=ours, buckets=buckets), Turn(ends.append if together else None))
    histogram = Histogram("h", "-", registry=theirs, buckets=buckets)

    for value in VALUES:
        spread.observe(value)
        histogram.observe(value)
    for end in ends:
        end()

    for le in ("0.1", "0.5", "1.0", "+Inf"):
        assert ours.get_sample_value("h_bucket", {"le": le}) == theirs.get_sample_value("h_bucket", {"le": le}), le
    assert ours.get_sample_value("h_count") == len(VALUES)
    assert ours.get_sample_value("h_sum") == pytest.approx(sum(VALUES))
