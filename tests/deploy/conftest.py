"""A real Prometheus and a real Alertmanager on free ports, with the shipped configuration at the pace of a test.

`start_prometheus(tmp_path, targets, ...)` scrapes whatever listens on the targets; `.query(expr)` and `.alerts()` read
back what it sees. `start_alertmanager(tmp_path, webhook)` sends what it would tell to one URL. Both return only when
the server is ready, and want to be stopped; the fixtures `prometheus`, `alertmanager` and `webhook` do that by themselves.
"""

import json
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.system.harness import free_port

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERT_RULES = DEPLOY / "prometheus" / "alerts.yml"


def program(*names: str) -> str:
    """The first of these that is on PATH (Debian says prometheus-alertmanager, others alertmanager); or the test skips."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"{names[0]} is not on PATH (Debian packages: prometheus, prometheus-alertmanager)")
    return found


def eventually(look: Callable[[], object], *, within: float, what: str) -> float:
    """Wait until `look()` is true; the seconds that took."""
    start = time.monotonic()
    while not look():
        if time.monotonic() - start > within:
            pytest.fail(f"not within {within} s: {what}")
        time.sleep(0.05)
    return time.monotonic() - start


@dataclass
class Server:
    """A server of our own, at `url`."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=5) as reply:
            return json.load(reply)

    def ready(self) -> bool:
        if self.process.poll() is not None:
            pytest.fail(f"the server ended by itself:\n{self.log.read_text()}")
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=1):
                return True
        except OSError:
            return False

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Prometheus(Server):
    def query(self, expr: str) -> list[tuple[dict[str, str], float]]:
        """The labels and the value of each series that the expression has now."""
        reply = self.get("/api/v1/query?" + urllib.parse.urlencode({"query": expr}))
        return [(series["metric"], float(series["value"][1])) for series in reply["data"]["result"]]

    def alerts(self, name: str | None = None) -> list[dict[str, str]]:
        """The labels of each alert that fires now."""
        firing = (
            alert["labels"] for alert in self.get("/api/v1/alerts")["data"]["alerts"] if alert["state"] == "firing"
        )
        return [labels for labels in firing if name is None or labels["alertname"] == name]


class Alertmanager(Server):
    pass


def _launch(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as sink:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT)


def start_prometheus(
    tmp_path: Path,
    targets: Sequence[str],
    rule_files: Sequence[Path] = (ALERT_RULES,),
    alertmanagers: Sequence[str] = (),
    *,
    interval: str = "1s",
) -> Prometheus:
    """The shipped prometheus.yml with these targets ("127.0.0.1:4110"), rules and Alertmanagers, at a quicker pace."""
    settings = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    settings["global"] = {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval}
    settings["rule_files"] = [str(file) for file in rule_files]
    settings["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = list(alertmanagers)
    settings["scrape_configs"][0]["static_configs"][0]["targets"] = list(targets)
    home = tmp_path / "prometheus"
    home.mkdir()
    (home / "prometheus.yml").write_text(yaml.safe_dump(settings))
    port = free_port()
    command = [
        program("prometheus"),
        f"--config.file={home}/prometheus.yml",
        f"--storage.tsdb.path={home}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    started = Prometheus(_launch(command, home / "log"), f"http://127.0.0.1:{port}", home / "log")
    eventually(started.ready, within=20, what="Prometheus is ready")
    return started


def start_alertmanager(tmp_path: Path, webhook: str) -> Alertmanager:
    """The shipped alertmanager.yml with every receiver at `webhook` and waits of a second; repeat_interval as shipped."""
    settings = yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yml").read_text())
    for route in (settings["route"], *settings["route"]["routes"]):
        route |= {"group_wait": "1s", "group_interval": "1s"}
    for receiver in settings["receivers"]:
        for hook in receiver["webhook_configs"]:
            hook["url"] = webhook
    home = tmp_path / "alertmanager"
    home.mkdir()
    (home / "alertmanager.yml").write_text(yaml.safe_dump(settings))
    port = free_port()
    command = [
        program("prometheus-alertmanager", "alertmanager"),
        f"--config.file={home}/alertmanager.yml",
        f"--storage.path={home}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        "--data.retention=8784h",
    ]
    started = Alertmanager(_launch(command, home / "log"), f"http://127.0.0.1:{port}", home / "log")
    eventually(started.ready, within=20, what="Alertmanager is ready")
    return started


class Webhook:
    """Keeps every notification with the time of its arrival (time.monotonic)."""

    def __init__(self) -> None:
        notifications: list[tuple[float, dict[str, Any]]] = []

        class Catch(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                notifications.append((time.monotonic(), body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._notifications = notifications
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Catch)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"

    def of(self, alertname: str) -> list[tuple[float, dict[str, Any]]]:
        """The notifications about this alert, oldest first."""
        return [(at, body) for at, body in self._notifications if body["alerts"][0]["labels"]["alertname"] == alertname]

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    catcher = Webhook()
    yield catcher
    catcher.stop()


@pytest.fixture
def alertmanager(tmp_path: Path, webhook: Webhook) -> Iterator[Alertmanager]:
    started = start_alertmanager(tmp_path, webhook.url)
    yield started
    started.stop()


@pytest.fixture
def prometheus(tmp_path: Path, alertmanager: Alertmanager) -> Iterator[Callable[[Sequence[str]], Prometheus]]:
    """`prometheus(["127.0.0.1:4110"])` starts one with the shipped rules that tells the Alertmanager."""
    started: list[Prometheus] = []

    def start(targets: Sequence[str]) -> Prometheus:
        started.append(start_prometheus(tmp_path, targets, alertmanagers=[alertmanager.url.removeprefix("http://")]))
        return started[-1]

    yield start
    for server in started:
        server.stop()
