"""Real servers that tests may kill, stop and fill: the embedded Valkey and Redis from PATH."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from proxy.store.server import server_binary

KINDS = ("valkey", "redis")


def binary_of(kind: str) -> str:
    """The server's program; skips where Redis is not installed."""
    if kind == "valkey":
        return server_binary()
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("redis-server is not on PATH (Debian: apt-get install redis-server)")
    return found


class Server:
    """One server on a unix socket, or on a TCP port of 127.0.0.1. Its data survives a restart."""

    def __init__(self, kind: str, directory: Path, *options: str, port: int = 0) -> None:
        self.kind = kind
        self.directory = directory
        self.port = port
        self.path = str(directory / "s.sock")
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}" if self.port else f"unix://{self.path}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [
                *(binary_of(self.kind), "--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", self.path),
                *("--dir", str(self.directory), "--save", "", "--appendonly", "no", "--loglevel", "warning"),
                *self._options,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 10
        while True:
            try:
                with self.client() as client, contextlib.suppress(redis.AuthenticationError):
                    client.ping()
            except redis.RedisError:
                assert time.monotonic() < until, "the server does not come up"
                assert self._process.poll() is None, "the server has died"
                time.sleep(0.01)
            else:
                return

    def client(self, **options: Any) -> redis.Redis:
        """A plain client, to look and to meddle."""
        retry = Retry(NoBackoff(), 0)
        return redis.Redis(unix_socket_path=self.path, decode_responses=True, retry=retry, **options)

    def kill(self) -> None:
        """As the kernel does it: nothing is written, nothing is said."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)
