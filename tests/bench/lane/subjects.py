"""Who is measured: each started as its users start it, before one upstream, and stopped again."""

import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

from tests.bench.lane import processes
from tests.bench.lane.tools import HERE
from tests.system.harness import environment, free_port, prepare

STARTS_WITHIN = 120.0
MODEL = "gpt-4o-mini"


@dataclass(frozen=True)
class Place:
    """Where a subject runs: a directory of its own, the upstream, the cores."""

    directory: Path
    upstream: int
    cores: frozenset[int]  # of the proxy
    rest: frozenset[int]  # of load, upstream and store
    ca: Path | None = None
    """Of a TLS upstream (`upstream` is its port then); None: plain."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """Of taximeter, beyond what it has in every run."""

    @property
    def upstream_url(self) -> str:
        return f"https://localhost:{self.upstream}" if self.ca else f"http://127.0.0.1:{self.upstream}"


@dataclass
class Running:
    """A subject that answers."""

    port: int
    process: subprocess.Popen[bytes] | None = None
    start_seconds: float | None = None
    path: str = "/v1/chat/completions"
    model: str = MODEL
    headers: Mapping[str, str] = field(default_factory=dict)
    cli: Callable[..., subprocess.CompletedProcess[str]] | None = None
    """taximeter's other commands, with its configuration; None: it keeps no account."""
    workers: int = 1
    log: Path | None = None

    def pids(self) -> list[int]:
        """Its processes, the store apart."""
        return [pid for pid in self._tree() if not processes.is_store(pid)]

    def store_pids(self) -> list[int]:
        return [pid for pid in self._tree() if processes.is_store(pid)]

    def entries(self) -> int | None:
        """How many requests it has accounted for; None: it keeps no account."""
        if self.cli is None:
            return None
        done = self.cli("report", "--json")
        if done.returncode:
            raise RuntimeError(f"no report: {done.stderr}")
        count: int = json.loads(done.stdout)["total"]["requests"]
        return count

    def _tree(self) -> list[int]:
        return [] if self.process is None else processes.tree(self.process.pid)


@dataclass(frozen=True)
class Subject:
    """`missing` says why it cannot run here. `start` yields it running. `only`: scenarios; empty: all.

    `beside`: who is measured in turns with it.
    """

    name: str
    start: Callable[[Place], AbstractContextManager[Running]]
    version: Callable[[], str]
    missing: Callable[[], str | None] = lambda: None
    tls: bool = False
    workers: int = 1
    only: tuple[str, ...] = ()
    beside: str | None = None


@contextmanager
def running(
    place: Place,
    arguments: Sequence[str],
    port: int,
    *,
    ready: str | None = "/v1/models",
    env: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """Start a process on the proxy's cores; it is up when `ready` (None: the port) answers. At the end: SIGTERM."""
    began = time.monotonic()
    with (place.directory / "log").open("wb") as log:
        process = subprocess.Popen(
            ["taskset", "-c", ",".join(map(str, sorted(place.cores))), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=place.directory,
            env=_as_installed(environment(**(env or {}))),
            start_new_session=True,
            preexec_fn=_all_descriptors,  # noqa: PLW1509 - no threads here
        )
    try:
        while not _answers(port, ready):
            if process.poll() is not None or time.monotonic() - began > STARTS_WITHIN:
                tail = (place.directory / "log").read_text(errors="replace")[-3000:]
                raise RuntimeError(f"{' '.join(arguments)} does not start ({process.poll()}):\n{tail}")
            time.sleep(0.005)
        yield Running(port, process, time.monotonic() - began, log=place.directory / "log")
    finally:
        stop(process)


def _as_installed(env: dict[str, str]) -> dict[str, str]:
    """Python keeps what it has compiled, as it does where nobody told it not to: the first start is not every start."""
    return {name: value for name, value in env.items() if name != "PYTHONDONTWRITEBYTECODE"}


def stop(process: subprocess.Popen[bytes]) -> None:
    """End it and all that it started."""
    left = processes.tree(process.pid)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(60)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, 9)
    process.wait()


def _all_descriptors() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _answers(port: int, path: str | None) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as connection:
        if path is None:
            return True
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        return connection.recv(64).split(b" ")[1:2] == [b"200"]
    return False


@contextmanager
def direct(place: Place) -> Iterator[Running]:
    """Nobody between load and upstream: what the others' latencies are compared with."""
    yield Running(place.upstream)


NGINX = """
daemon off;
worker_processes {workers};
worker_rlimit_nofile 20000;
error_log stderr error;
pid {directory}/nginx.pid;
events {{ worker_connections 20000; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  keepalive_timeout 600;
  keepalive_requests 100000000;
  upstream above {{ server {upstream}; keepalive 2048; keepalive_requests 100000000; keepalive_timeout 600; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096{listen};
    {server}
    location / {{
      proxy_pass {scheme}://above;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 600;
      {location}
    }}
  }}
}}
"""


def nginx(*, workers: int) -> Callable[[Place], AbstractContextManager[Running]]:
    @contextmanager
    def start(place: Place) -> Iterator[Running]:
        port = free_port()
        settings = {"scheme": "http", "upstream": f"127.0.0.1:{place.upstream}", "location": ""}
        if place.ca is not None:
            settings["scheme"] = "https"
            settings["location"] = (
                f"proxy_ssl_trusted_certificate {place.ca}; proxy_ssl_verify on; proxy_ssl_name localhost; "
                "proxy_ssl_server_name on; proxy_ssl_session_reuse on;"
            )
        with _nginx(place, port, workers=workers, listen="", server="", **settings) as up:
            up.workers = workers
            yield up

    return start


@contextmanager
def tls_in_front(place: Place, certificate: Path, key: Path) -> Iterator[int]:
    """TLS before the upstream, ended by an nginx on the load's cores. Yields its port."""
    port = free_port()
    with _nginx(
        replace(place, cores=place.rest),
        port,
        workers=1,
        listen=" ssl",
        server=f"ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_session_cache shared:all:8m;",
        scheme="http",
        upstream=f"127.0.0.1:{place.upstream}",
        location="",
        ready=None,
    ):
        yield port


@contextmanager
def _nginx(place: Place, port: int, *, ready: str | None = "/v1/models", **settings: object) -> Iterator[Running]:
    config = place.directory / "nginx.conf"
    config.write_text(NGINX.format(directory=place.directory, port=port, **settings))
    arguments = ["nginx", "-p", str(place.directory), "-c", str(config)]
    with running(place, arguments, port, ready=ready) as up:
        yield up


def nginx_version() -> str:
    return subprocess.run(["nginx", "-v"], capture_output=True, text=True).stderr.strip().rpartition("/")[2]


@contextmanager
def aiohttp_relay(place: Place) -> Iterator[Running]:
    port = free_port()
    with running(place, [sys.executable, str(HERE / "relay.py"), str(port), place.upstream_url], port) as up:
        yield up


def taximeter(*, workers: int, on_exceed: str = "refuse") -> Callable[[Place], AbstractContextManager[Running]]:
    """With everything on: a key, a budget that matches, the embedded store, metrics, one or more workers.

    `on_exceed`: what the budget does at its limit. Where it refuses, a request waits for the store's word.
    """

    @contextmanager
    def start(place: Place) -> Iterator[Running]:
        env = {"OPENAI_API_KEY": "sk-bench"}
        prepared = prepare(
            place.directory,
            f"{place.upstream_url}/v1",
            env=env,
            provider="openai",
            workers=workers,
            budget=[
                {"name": "bench", "limit_usd": "1000000", "period": "month", "owner": "bench", "on_exceed": on_exceed}
            ],
            **({} if place.ca is None else {"upstream_ca_file": str(place.ca)}),
            **place.settings,
        )
        port, ops = (int(address.rpartition(":")[2]) for address in (prepared.listen, prepared.ops_listen))
        command = [sys.executable, "-m", "proxy.cli.main"]
        env = dict(prepared.environ)

        def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run([*command, *arguments], env=env, cwd=place.directory, capture_output=True, text=True)

        with running(place, [*command, "serve"], ops, ready="/readyz", env=env) as up:
            up.port, up.workers, up.cli = port, workers, cli
            if len(place.rest) < (os.cpu_count() or 1):
                processes.pin(up.store_pids(), place.rest)
            key = cli("keys", "create", "--owner", "bench")
            if key.returncode:
                raise RuntimeError(f"no key: {key.stderr}")
            up.headers = {"Authorization": f"Bearer {key.stdout.strip()}"}
            yield up

    return start


SUBJECTS: tuple[Subject, ...] = (
    Subject("direct", direct, lambda: "", only=("rate", "first")),
    Subject(
        "nginx", nginx(workers=1), nginx_version, lambda: None if shutil.which("nginx") else "nginx is not installed"
    ),
    Subject("taximeter", taximeter(workers=1), lambda: version("taximeter")),
    Subject("taximeter-alerting", taximeter(workers=1, on_exceed="alert"), lambda: "", only=("whole", "rate", "first")),
    Subject("aiohttp relay", aiohttp_relay, lambda: version("aiohttp")),
    Subject("nginx-2", nginx(workers=2), lambda: "", workers=2, only=("whole", "streams"), beside="nginx"),
    Subject("taximeter-2", taximeter(workers=2), lambda: "", workers=2, only=("whole", "streams"), beside="taximeter"),
    Subject("nginx-tls", nginx(workers=1), lambda: "", tls=True, only=("whole", "streams")),
    Subject("taximeter-tls", taximeter(workers=1), lambda: "", tls=True, only=("whole", "streams")),
)
