"""Certificates and proxies that cannot be used are named before anything starts."""

from pathlib import Path

import pytest

from proxy.config import Config
from proxy.errors import UsageError
from proxy.server.way import check_way


def config(directory: Path, **settings: object) -> Config:
    return Config(data_dir=directory, **settings)  # type: ignore[arg-type]


def test_nothing_is_configured(tmp_path: Path) -> None:
    check_way(config(tmp_path))


def test_a_certificate_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"upstream_ca_file: .*ca\.pem cannot be read: No such file"):
        check_way(config(tmp_path, upstream_ca_file=tmp_path / "ca.pem"))


def test_a_proxy_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://me:secret@proxy")
    with pytest.raises(UsageError, match="HTTPS_PROXY must be the URL of an HTTP proxy") as error:
        check_way(config(tmp_path))
    assert "secret" not in str(error.value)
    check_way(config(tmp_path, upstream="http://127.0.0.1:8000/v1"))  # this machine needs no proxy
