"""The short form of `python -m tests.chaos.million`."""

from pathlib import Path

import pytest

from tests.chaos.million import measure


@pytest.mark.slow
async def test_the_stores_memory_stays_flat_apart_from_the_ledger(tmp_path: Path) -> None:
    measured = await measure(tmp_path, 20_000)
    print(measured.text())
    assert not measured.findings
