"""A configuration shows its secrets to nobody who prints it, not even in a traceback with the values of variables."""

import pickle
import traceback
from pathlib import Path

import pytest

from proxy.config import Config, NotifyConfig, Secret
from proxy.server.control import Orders, frame

SECRETS = ("sk-secret-1", "hook-secret-2", "sign-secret-3", "redis-secret-4")
CONFIG = Config(
    data_dir=Path("/d"),
    upstream_key=Secret(SECRETS[0]),
    notify=(NotifyConfig(url=Secret(f"https://h/{SECRETS[1]}"), secret=Secret(SECRETS[2])),),
    redis_url=f"redis://:{SECRETS[3]}@h/0",
)


def test_a_traceback_with_all_variables_shows_no_secret() -> None:
    config = CONFIG

    def fail(orders: Orders) -> None:
        raise ValueError(f"broken: {config} {orders.config.upstream_key}")

    with pytest.raises(ValueError, match="broken") as caught:
        fail(Orders(config, "", 0))
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    text = "".join(told.format())
    assert "config = Config(" in text
    assert [secret for secret in SECRETS if secret in text] == []


def test_workers_are_given_them_all_the_same() -> None:
    orders: Orders = pickle.loads(frame(Orders(CONFIG, "", 0))[4:])

    assert orders.config == CONFIG
