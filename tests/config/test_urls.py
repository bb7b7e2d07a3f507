"""Addresses that can be: how an upstream is brought into one form, and which stores there are."""

from pathlib import Path

import pytest

from proxy.config import load_config


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("https://api.openai.com", "https://api.openai.com/v1"),
        ("https://api.openai.com/", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
        ("HTTP://Host:8080", "http://Host:8080/v1"),
        ("https://acme.openai.azure.com/openai/v1//", "https://acme.openai.azure.com/openai/v1"),
        ("http://[::1]:8000/api/", "http://[::1]:8000/api"),
    ],
)
def test_upstreams(tmp_path: Path, written: str, expected: str) -> None:
    assert load_config({"upstream": written}, {"HOME": "/h"}, tmp_path).upstream == expected


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:6379/0",
        "redis://h",
        "redis://h/?protocol=3",
        "redis://user:p%40ss@h:1/15",
        "rediss://h:6380/0?ssl_ca_certs=/etc/ca.pem",
        "unix:///run/valkey.sock?db=1",
        "unix://user:pass@/run/valkey.sock",
        "redis+sentinel://:p@a:26379,b:26379,[::1]:26379/mymaster/0",
        "rediss+sentinel://:p@a:26379,b:26379/mymaster/0?ssl_ca_certs=/etc/ca.pem",
        "redis+cluster://a:1,b:2",
        "rediss+cluster://a:1,b:2?ssl_ca_certs=/etc/ca.pem",
    ],
)
def test_stores(tmp_path: Path, url: str) -> None:
    assert load_config({"redis_url": url}, {"HOME": "/h"}, tmp_path).redis_url == url
