"""For every room: the `slow` marker, and the rule that nothing may skip where everything is installed."""

import os
from collections.abc import Generator

# Imported before any test runs: its plugin imports it late, in the middle of a report, where CPython 3.11's AST
# constructor can trip over its own recursion count (https://github.com/python/cpython/issues/106905).
import hypothesis
import pytest

from proxy import FORM

# Nothing is tested by the clock: a busy machine is no fault of the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

NO_SKIP = os.environ.get("TAXIMETER_TEST_NO_SKIP") == "1"
"""Set where all parts are installed (`.ci/run`): there a test that skips proves nothing, so it fails."""


def pytest_report_header() -> str:
    return f"taximeter: {FORM}"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "slow: ten seconds or more with its variants; `make test` leaves it to continuous integration"
    )


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    # An expected failure is reported as "skipped" too; it has run, and says so in `wasxfail`.
    if NO_SKIP and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: nothing may skip here (TAXIMETER_TEST_NO_SKIP=1). {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_if_skipped(report)
    return report
