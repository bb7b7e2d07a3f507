"""Counts of one turn are written together, exactly, and those of a histogram fall into the same buckets."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.mmap_dict import MmapedDict

from proxy.tallies import Place, Spread, Tally, Turn, Uses

VALUES = (0.05, 0.1, 0.1000001, 0.5, 1.0, 7.0)


def test_a_turn_is_paid_once_for_all_that_was_counted_in_it() -> None:
    ends: list[Callable[[], None]] = []
    registry = CollectorRegistry()
    counter, gauge = Counter("c", "-", registry=registry), Gauge("g", "-", registry=registry)
    cost, tokens = Counter("d", "-", registry=registry), Counter("t", "-", ["kind"], registry=registry)
    turn = Turn(ends.append)
    tally = Tally(counter, turn)
    uses = Uses(turn, last_used=gauge, cost=lambda: cost, tokens=tokens.labels)

    for number in range(3):
        tally.add(2)
        uses.add({"input": 5, "output": number}, None if number == 1 else 10**8, datetime.fromtimestamp(number, UTC))
    assert registry.get_sample_value("c_total") == 0
    assert registry.get_sample_value("d_total") == 0
    assert registry.get_sample_value("t_total", {"kind": "input"}) == 0
    [end] = ends
    end()
    assert registry.get_sample_value("c_total") == 6
    assert registry.get_sample_value("g") == 2
    assert registry.get_sample_value("d_total") == 0.2
    assert [registry.get_sample_value("t_total", {"kind": kind}) for kind in ("input", "output")] == [15, 3]

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


def test_counts_in_a_workers_file_are_those_of_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    in_file = values.MultiProcessValue(lambda: "w0")  # type: ignore[no-untyped-call]
    ours, theirs = (in_file("counter", "m", name, (), (), "help") for name in ("ours", "theirs"))
    place = Place(ours)
    for number in range(300):
        in_file("counter", "m", f"grows-{number}" + "x" * 5000, (), (), "help")  # the file is mapped anew
        place.add(number / 3)
        theirs.inc(number / 3)
    gauge = in_file("gauge", "g", "g", (), (), "help", multiprocess_mode="max")
    Place(gauge).put(7.5)

    read = {
        json.loads(key)[1]: value
        for file in tmp_path.glob("*.db")
        for key, value, _, _ in MmapedDict.read_all_values_from_file(str(file))  # type: ignore[no-untyped-call]
    }
    assert read["ours"] == read["theirs"] == ours.get() == theirs.get()
    assert (read["g"], gauge.get()) == (7.5, 7.5)
