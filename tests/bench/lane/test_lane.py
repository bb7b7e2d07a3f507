"""The benchmark runs, and its arithmetic holds. How fast anything is, a test does not say."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.lane.table import TABLES, Column, ratio, rendered, value
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


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("subjects", ["nginx,taximeter", "nginx-tls,taximeter-tls"])
def test_a_tiny_run(tmp_path: Path, subjects: str) -> None:
    for program in ("gcc", "nginx", "openssl", "taskset"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not on PATH")
    figures = tmp_path / "figures.json"
    arguments = ["--size", "tiny", "--repetitions", "1", "--only", "whole,streams,hidden,idle", "--json", str(figures)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.lane", "--subjects", subjects, *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (measured,) = json.loads(figures.read_text())["repetitions"]
    for subject in subjects.split(","):
        assert measured[subject]["whole"]["cpu_ms"] > 0, done.stderr
        assert measured[subject]["streams"]["cpu_s"] > 0, done.stderr
