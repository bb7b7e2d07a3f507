"""The 30-second form of `make chaos`."""

from pathlib import Path

import pytest

from tests.chaos.storm import storm

SEED = 20261122


@pytest.mark.slow
async def test_whatever_dies_each_request_is_one_entry(tmp_path: Path) -> None:
    outcome = await storm(tmp_path, 30, SEED)
    print(outcome.text())
    assert not outcome.findings
    assert outcome.verdict.requests > 200
    assert len({done.kind for done in outcome.faults}) >= 8
