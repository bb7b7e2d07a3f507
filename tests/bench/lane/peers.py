"""Gateways that others wrote, each in an environment of its own below ~/.cache/taximeter-bench.

    python -m tests.bench.lane.peers      installs what is missing (`make bench-peers`); 2 GB, from PyPI and npm

Each is started as its own documentation says, for one OpenAI-compatible upstream, with one worker and without a
database. None of them holds a budget then.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.lane.subjects import MODEL, Place, Running, Subject, running
from tests.system.harness import free_port

CACHE = Path.home() / ".cache" / "taximeter-bench"

# What litellm's `proxy` extra asks for, without pins of packages that are newer than some mirrors.
LOOSENED = """
from importlib.metadata import requires
from pip._vendor.packaging.requirements import Requirement
for text in requires("litellm"):
    wanted = Requirement(text)
    if wanted.marker is None or wanted.marker.evaluate({"extra": "proxy"}):
        if wanted.name == "certifi" or wanted.name.startswith("litellm-"):
            wanted.specifier = ""
        wanted.marker = None
        print(wanted)
"""


@dataclass(frozen=True)
class Peer:
    name: str
    version: str
    install: Callable[["Peer"], None]
    start: Callable[["Peer", Place], AbstractContextManager[Running]]
    only: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return CACHE / f"{self.name}-{self.version}"

    def missing(self) -> str | None:
        return None if (self.folder / "complete").exists() else "make bench-peers installs it"

    def subject(self) -> Subject:
        return Subject(
            self.name, lambda place: self.start(self, place), lambda: self.version, self.missing, only=self.only
        )


def _venv(peer: Peer) -> list[str]:
    """A new environment; the pip command in it."""
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(peer.folder)], check=True)
    return [str(peer.folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]


def _from_pypi(peer: Peer) -> None:
    subprocess.run([*_venv(peer), f"{peer.name}=={peer.version}"], check=True)


def _litellm_install(peer: Peer) -> None:
    pip = _venv(peer)
    subprocess.run([*pip, "--no-deps", f"litellm=={peer.version}"], check=True)
    asked = subprocess.run([pip[0], "-c", LOOSENED], check=True, capture_output=True, text=True)
    subprocess.run([*pip, *asked.stdout.splitlines()], check=True)


def _portkey_install(peer: Peer) -> None:
    peer.folder.mkdir(parents=True, exist_ok=True)
    package = f"@portkey-ai/gateway@{peer.version}"
    subprocess.run(["npm", "install", "--silent", "--prefix", str(peer.folder), package], check=True)


@contextmanager
def _litellm(peer: Peer, place: Place) -> Iterator[Running]:
    port = free_port()
    config = place.directory / "config.yaml"  # JSON is YAML
    parameters = {"model": f"openai/{MODEL}", "api_base": f"{place.upstream_url}/v1", "api_key": "sk-upstream"}
    config.write_text(
        json.dumps(
            {
                "model_list": [{"model_name": MODEL, "litellm_params": parameters}],
                "general_settings": {"master_key": "sk-bench"},
            }
        )
    )
    command = [str(peer.folder / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1"]
    env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PATH": f"{peer.folder / 'bin'}:/usr/bin:/bin"}
    with running(place, [*command, "--port", str(port)], port, ready="/health/liveliness", env=env) as up:
        yield up


@contextmanager
def _portkey(peer: Peer, place: Place) -> Iterator[Running]:
    port = free_port()
    server = peer.folder / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    node = shutil.which("node") or "node"
    with running(place, [node, str(server), f"--port={port}", "--headless"], port, ready="/") as up:
        up.headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"{place.upstream_url}/v1"}
        yield up


@contextmanager
def _vllm_router(peer: Peer, place: Place) -> Iterator[Running]:
    port, metrics = free_port(), free_port()
    command = [str(peer.folder / "bin" / "vllm-router"), "--host", "127.0.0.1", "--port", str(port)]
    options = ["--worker-urls", place.upstream_url, "--policy", "round_robin", "--prometheus-port", str(metrics)]
    with running(place, [*command, *options, "--log-level", "error"], port, ready="/health") as up:
        yield up


@contextmanager
def _rolter(peer: Peer, place: Place) -> Iterator[Running]:
    port = free_port()
    config = place.directory / "rolter.toml"
    config.write_text(
        f'[[providers]]\nname = "above"\nkind = "openai_compatible"\napi_base = "{place.upstream_url}"\n'
        f'[[routes]]\nmodel = "{MODEL}"\nstrategy = "round_robin"\n'
        f'[[routes.targets]]\nprovider = "above"\nmodel = "{MODEL}"\n'
    )
    command = [str(peer.folder / "bin" / "rolter"), "gateway", "--config", str(config), "--host", "127.0.0.1"]
    with running(place, [*command, "--port", str(port)], port, ready=None) as up:
        yield up


# What takes less than a hundred requests a second would need minutes for ten thousand connections. Portkey 1.15.2 answers
# each stream with 500 (it changes headers that Node 20's fetch makes immutable), so only its whole replies count.
PEERS = (
    Peer("rolter", "0.1.0", _from_pypi, _rolter),
    Peer("vllm-router", "0.1.17", _from_pypi, _vllm_router),
    Peer("portkey", "1.15.2", _portkey_install, _portkey, only=("whole", "memory")),
    Peer("litellm", "1.109.1", _litellm_install, _litellm, only=("whole", "streams", "memory", "open")),
)


def main() -> None:
    for peer in PEERS:
        if peer.missing() is None:
            continue
        print(f"setting up {peer.folder}", file=sys.stderr)
        try:
            peer.install(peer)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"{peer.name} {peer.version} cannot be installed here: {error}", file=sys.stderr)
        else:
            (peer.folder / "complete").touch()


if __name__ == "__main__":
    main()
