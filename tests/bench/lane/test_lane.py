"""The benchmark runs, and its arithmetic holds. How fast anything is, a test does not say."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bench.lane.soak import slope
from tests.bench.lane.table import GOALS, TABLES, Column, judged, ratio, rendered, value
from tests.bench.lane.tools import REPOSITORY

CPU = Column("CPU", "whole", "cpu_ms", 2)
FIRST = Column("first", "first", "first_p50_ms", 2, ratio=False, added=True)


def repetition(nginx: float, taximeter: float) -> dict[str, dict[str, dict[str, float]]]:
    return {
        "direct": {"first": {"first_p50_ms": 0.25}},
        "nginx": {"whole": {"cpu_ms": nginx}, "first": {"first_p50_ms": 0.5}},
        "taximeter": {"whole": {"cpu_ms": taximeter}, "first": {"first_p50_ms": 1.0}},
    }


def test_a_ratio_is_of_one_repetition_and_the_median_is_taken_afterwards() -> None:
    repetitions = [repetition(1.0, 4.0), repetition(2.0, 4.0), repetition(1.0, 3.0)]
    assert value(CPU, "taximeter", repetitions) == 4.0
    assert ratio(CPU, "taximeter", repetitions) == 3.0


def test_what_is_added_is_less_the_way_without_a_proxy() -> None:
    assert value(FIRST, "taximeter", [repetition(1, 1)]) == 0.75


def test_what_was_not_measured_is_no_zero() -> None:
    assert value(CPU, "direct", [repetition(1, 1)]) is None
    assert "| direct " not in rendered(["direct"], [{"direct": {}}])
    assert rendered(["nginx"], [{"nginx": {}}]) == ""


def test_each_figure_has_one_column() -> None:
    columns = [(column.scenario, column.figure) for columns in TABLES.values() for column in columns]
    assert len(set(columns)) == len(columns)


def test_a_goal_is_judged_only_where_it_was_measured() -> None:
    assert judged([repetition(1.0, 5.0)]).splitlines() == [
        "CPU a whole request, of nginx's (goal): 5.00, at most 4: MISSED",
        "CPU a whole request, of nginx's (bound): 5.00, at most 6: met",
    ]
    assert judged([{"nginx": {}}]) == ""
    assert len({goal.title for goal in GOALS}) == len(GOALS)


def test_the_slope_of_a_line_is_its_slope() -> None:
    assert slope([0, 1, 2, 3], [5, 7, 9, 11]) == pytest.approx(2)
    assert slope([0, 1, 2], [4, 4, 4]) == 0


def _skip_without(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not on PATH")


def _tiny(tmp_path: Path, subjects: str, scenarios: str) -> tuple[Any, str]:
    """The figures of one short repetition, and what was said on stderr."""
    figures = tmp_path / "figures.json"
    arguments = ["--size", "tiny", "--repetitions", "1", "--only", scenarios, "--json", str(figures)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.lane", "--subjects", subjects, *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (measured,) = json.loads(figures.read_text())["repetitions"]
    return measured, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("subjects", ["nginx,taximeter", "nginx-tls,taximeter-tls"])
def test_a_tiny_run(tmp_path: Path, subjects: str) -> None:
    _skip_without("gcc", "nginx", "openssl", "taskset")
    measured, said = _tiny(tmp_path, subjects, "whole,streams,hidden,idle")
    for subject in subjects.split(","):
        assert measured[subject]["whole"]["cpu_ms"] > 0, said
        assert measured[subject]["streams"]["cpu_s"] > 0, said


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_two_workers_beside_one(tmp_path: Path) -> None:
    _skip_without("gcc", "taskset")
    measured, said = _tiny(tmp_path, "taximeter-2", "turns")
    assert measured["taximeter-2"]["turns"].keys() == {"given_way", "interrupted"}, said


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_short_soak_loses_nothing() -> None:
    _skip_without("gcc", "taskset")
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.lane.soak", "--minutes", "0.3"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "clients left" in done.stdout
