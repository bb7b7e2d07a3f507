"""Addresses parse and print; secrets stay hidden; a configuration survives the way to a worker."""

import pickle
from pathlib import Path

import pytest

from proxy.config import Address, Config, Secret
from proxy.config.records import without_password


@pytest.mark.parametrize(
    ("text", "host", "port", "printed"),
    [
        ("127.0.0.1:4100", "127.0.0.1", 4100, "127.0.0.1:4100"),
        ("[::1]:4100", "::1", 4100, "[::1]:4100"),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", 1, "[fe80::1%eth0]:1"),
        (":4100", "0.0.0.0", 4100, "0.0.0.0:4100"),
        ("localhost:0", "localhost", 0, "localhost:0"),
        ("proxy-1.example:65535", "proxy-1.example", 65535, "proxy-1.example:65535"),
    ],
)
def test_address(text: str, host: str, port: int, printed: str) -> None:
    address = Address.parse(text)

    assert (host, port, printed) == (address.host, address.port, str(address))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4100",
        "localhost",
        "h:",
        "h:65536",
        "h:-1",
        "h:4 1",
        "h:٤",
        "::1:4100",
        "[::1]",
        "[x]:1",
        "[]:1",
        "a b:1",
        "http://h:1",
    ],
)
def test_address_that_cannot_be(text: str) -> None:
    with pytest.raises(ValueError):
        Address.parse(text)


def test_a_secret_shows_itself_only_when_asked() -> None:
    secret = Secret("sk-very-secret")

    shown = [repr(secret), str(secret), f"{secret}", f"{secret:>20}", "%s %r" % (secret, secret), repr([secret])]  # noqa: UP031

    assert secret.reveal() == "sk-very-secret"
    assert not any("sk-" in text or "very" in text for text in shown)
    assert secret == Secret("sk-very-secret")
    assert secret != Secret("another")
    assert len({secret, Secret("sk-very-secret")}) == 1


def test_a_config_can_be_pickled_and_shows_no_secret() -> None:
    config = Config(
        data_dir=Path("/data"),
        upstream_key=Secret("sk-hidden"),
        redis_url="redis://user:pa55@h:6379/0",
        models={"a": "b"},
    )

    again = pickle.loads(pickle.dumps(config))

    assert config == again
    assert again.upstream_key.reveal() == "sk-hidden"
    assert config.redis_url_shown == "redis://***@h:6379/0"
    assert "hidden" not in repr(config)
    assert "pa55" not in repr(config)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h/0", "redis://h/0"),
        ("redis://:p@h/0", "redis://***@h/0"),
        ("redis://u:p@ss@w@h/0", "redis://***@h/0"),
        ("redis://:p/a?s#s@h", "redis://***@h"),
        ("redis://:p\na@h", "redis://***@h"),
        ("unix:///s.sock?db=1&password=p&x=1", "unix:///s.sock?db=1&password=***&x=1"),
        ("redis://h?PassWord=p", "redis://h?PassWord=***"),
        ("redis+sentinel://h/m?sentinel_password=p", "redis+sentinel://h/m?sentinel_password=***"),
    ],
)
def test_urls_without_their_password(url: str, shown: str) -> None:
    assert shown == without_password(url)
