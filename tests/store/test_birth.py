"""A store that has forgotten everything is noticed, and trusted again only when somebody has said so."""

import json
from pathlib import Path

import pytest

from proxy.errors import StoreWiped
from proxy.store import Store
from tests.store.cases import AT, account, opened
from tests.store.conftest import applied
from tests.store.servers import Server

BUDGET = account()


async def opened_store(server: Server, directory: Path, writer: str = "w1") -> Store:
    return await Store.open(server.url, writer=writer, timeout=1, directory=directory)


async def test_a_store_is_known_again(own_server: Server, tmp_path: Path) -> None:
    for writer in ("one", "two"):
        store = await opened_store(own_server, tmp_path, writer)
        assert not store.is_wiped
        assert await store.hold(opened(writer, 1), [BUDGET]) is None
        await store.close(1)
    known = json.loads((tmp_path / "store-birth").read_text())
    with own_server.client() as client:
        assert known == {own_server.url: client.get("{taximeter}:birth")}


async def test_a_wiped_store_holds_for_no_budget_until_it_is_acknowledged(
    own_server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from proxy.store import birth

    monkeypatch.setattr(birth, "LOOK_AGAIN_SECONDS", 0.0)
    store = await opened_store(own_server, tmp_path)
    assert await store.hold(opened("e1", 1), [BUDGET]) is None
    with own_server.client() as client:
        client.flushall()
        with pytest.raises(StoreWiped):
            await store.hold(opened("e2", 1), [BUDGET])  # its token is gone too, so it is asked again
        await applied(store)
        assert client.hkeys("{taximeter}:holds:w1") == ["e1"]  # what is under way is held again
        for ask in (store.hold(opened("e3", 1), [BUDGET]), store.check([BUDGET])):
            with pytest.raises(StoreWiped, match="budgets acknowledge"):
                await ask
        store.hold_later(opened("e4", 7), [account(refuses=False)])  # what passes anyway goes on
        await applied(store)
        assert client.hexists("{taximeter}:holds:w1", "e4")
    assert caplog.text.count("is not the one that was here before") == 1

    other = await opened_store(own_server, tmp_path, "command")
    assert other.is_wiped
    assert await other.acknowledge("ann@host", "moved", AT)
    assert not await other.acknowledge("ann@host", "moved", AT)
    for each in (other, store):
        assert not each.is_wiped
    await other.close(1)
    assert await store.hold(opened("e5", 1), [BUDGET]) is None
    await store.close(1)


async def test_another_store_behind_the_same_name_is_strange(own_server: Server, tmp_path: Path) -> None:
    await (await opened_store(own_server, tmp_path)).close(1)
    with own_server.client() as client:
        client.set("{taximeter}:birth", "somebody else's")
    store = await opened_store(own_server, tmp_path)
    assert store.is_wiped
    await store.close(1)


async def test_a_file_that_cannot_be_read_is_said_and_written_anew(
    own_server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "store-birth").write_text("{")
    store = await opened_store(own_server, tmp_path)
    assert not store.is_wiped
    await store.close(1)
    assert "store-birth cannot be read" in caplog.text
    assert len(json.loads((tmp_path / "store-birth").read_text())) == 1


async def test_each_store_has_a_place_of_its_own(own_server: Server, tmp_path: Path) -> None:
    (tmp_path / "store-birth").write_text(json.dumps({"redis://elsewhere": "another"}))
    store = await opened_store(own_server, tmp_path)
    assert not store.is_wiped
    await store.close(1)
    assert sorted(json.loads((tmp_path / "store-birth").read_text())) == sorted(["redis://elsewhere", own_server.url])
