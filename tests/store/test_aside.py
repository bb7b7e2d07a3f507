"""What no store takes is kept where somebody finds it, and blocks nothing."""

import json
from pathlib import Path

import pytest
import redis

from proxy.store import Store
from proxy.store.aside import Aside
from proxy.store.finished import SetAside
from tests.store.cases import account, entry
from tests.store.conftest import applied
from tests.store.servers import Server


async def test_it_is_in_the_directory_and_in_the_store(server: Server, raw: redis.Redis, tmp_path: Path) -> None:
    store = await Store.open(server.url, writer="w1", timeout=1, directory=tmp_path)
    broken = account("broken")
    raw.lpush("{taximeter}:committed:" + broken.key, "no number")
    store.settle(entry("e1", 10), [broken])
    store.settle(entry("e2", 10**17), [account()])  # more than any request can cost
    store.settle(entry("e3", 10), [account()])
    await applied(store)
    assert store.set_aside == 2
    lines = [json.loads(line) for line in (tmp_path / "aside.jsonl").read_text().splitlines()]
    assert sorted((line["id"], line["record"]["cost_nanos"]) for line in lines) == [("e1", 10), ("e2", 10**17)]
    assert all(line["at"].endswith("Z") and line["why"] for line in lines)
    in_store: list[tuple[str, dict[str, str]]] = raw.xrange("{taximeter}:aside")  # type: ignore[assignment]
    assert sorted(json.loads(fields["e"])["id"] for _, fields in in_store) == ["e1", "e2"]
    assert [found.id async for found in store.read_ledger()] == ["e3"]
    await store.close(1)


def test_a_directory_that_cannot_be_written_is_said_with_the_record(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Aside(tmp_path / "gone").add(SetAside("e1", '{"id": "e1"}', "why"))
    assert '{"id": "e1"}' in caplog.text


def test_the_count_follows_the_file(tmp_path: Path) -> None:
    aside = Aside(tmp_path)
    assert aside.count() == 0
    for number in (1, 2):
        aside.add(SetAside("e1", "{}", "why"))
        assert aside.count() == number
    (tmp_path / "aside.jsonl").unlink()
    assert aside.count() == 0
