"""`taximeter keys` end to end: a key is shown once, alone, and works until it is revoked."""

import asyncio
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.cli.main import main
from proxy.store import Store, embedded_store

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with embedded_store(tmp_path / "data") as url:
        yield url


@pytest.fixture
def cli(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TAXIMETER_CONFIG", raising=False)
    monkeypatch.setenv("TAXIMETER_REDIS_URL", url)

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["keys", *words])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def owner_of(url: str, key: str) -> str | None:
    async def find() -> str | None:
        async with await Store.open(url, writer="test", timeout=5) as store:
            found = await store.find_key(hashlib.sha256(key.encode()).hexdigest())
            return found.owner if found else None

    return asyncio.run(find())


def test_the_life_of_a_key(cli: Cli, url: str) -> None:
    code, out, err = cli("create", "--owner", "acme")
    key = out.removesuffix("\n")
    assert (code, err) == (0, "")
    assert re.fullmatch(r"tm-[A-Za-z0-9_-]{20,}", key)
    assert owner_of(url, key) == "acme"

    code, out, _ = cli("list", "--json")
    (listed,) = json.loads(out)["keys"]
    assert code == 0
    assert set(listed) == {"id", "owner", "created", "expires", "expired", "models"}
    assert (listed["owner"], listed["expires"], listed["expired"], listed["models"]) == ("acme", None, False, [])
    assert listed["created"].endswith("Z")
    assert key not in out

    code, out, _ = cli("list")
    assert out.splitlines()[0].split() == ["id", "owner", "created", "expires", "models"]
    assert out.splitlines()[1].split() == [listed["id"], "acme", listed["created"], "never", "all"]

    assert cli("revoke", listed["id"]) == (0, f"revoked {listed['id']} of acme\n", "")
    assert owner_of(url, key) is None
    assert cli("list", "--json")[1].split() == ["{", '"keys":', "[]", "}"]


def test_a_key_that_expires_and_is_for_some_models(cli: Cli) -> None:
    words = ("create", "--owner", "acme", "--expires", "2100-01-01", "--model", "ft:*", "gpt-4o", "--model", "ft:*")
    assert cli(*words)[0] == 0

    (listed,) = json.loads(cli("list", "--json")[1])["keys"]
    assert (listed["expires"], listed["expired"]) == ("2100-01-01T00:00:00Z", False)
    assert listed["models"] == ["ft:*", "gpt-4o"]
    assert "2100-01-01T00:00:00Z" in cli("list")[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--expires", "2001-01-01"), 'taximeter: --expires "2001-01-01": that is past'),
        (("--expires", "soon"), 'taximeter: --expires "soon": write a date as YYYY-MM-DD'),
        (("--expires", "0d"), 'taximeter: --expires "0d": write a date as YYYY-MM-DD'),
        (("--expires", "999999w"), "that is beyond the year 9999"),
        (("--model", ""), 'taximeter: --model ""'),
        (("--model", "a\nb"), "none of them invisible"),
    ],
)
def test_limits_that_cannot_be(cli: Cli, words: tuple[str, ...], message: str) -> None:
    code, out, err = cli("create", "--owner", "acme", *words)

    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_no_keys(cli: Cli) -> None:
    assert cli("list") == (0, "There are no keys. Make one: taximeter keys create --owner OWNER\n", "")


@pytest.mark.parametrize(
    "owner", ["", "Acme", "a b", "a" * 64, "anonymous", "other", "key-1a2b3c4d", "key-x", "a\n", "é"]
)
def test_owners_that_cannot_be(cli: Cli, owner: str) -> None:
    code, out, err = cli("create", "--owner", owner)

    assert (code, out) == (2, "")
    assert err.startswith("taximeter: --owner ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "the following arguments are required: ACTION"),
        (("creat",), "invalid choice: 'creat'"),
        (("create",), "the following arguments are required: --owner"),
        (("revoke",), "the following arguments are required: ID"),
        (("revoke", "0123456789ab"), "no key '0123456789ab'"),
        (("revoke", ""), "no key"),
        (("revoke", "tm-never-made"), "no key tm-…"),
    ],
)
def test_wrong_command_lines(cli: Cli, words: tuple[str, ...], message: str) -> None:
    code, out, err = cli(*words)

    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
