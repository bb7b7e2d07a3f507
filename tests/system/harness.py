"""Starts real processes for the system tests: taximeter, Redis 7. Everything is asynchronous, as fakes share the loop."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.system.ops import Scrape, get

START_SECONDS = 30.0
STOP_SECONDS = 30.0
SETTLE_SECONDS = 30.0
FINE_TUNED = "ft:gpt-4o-mini-2024-07-18:acme::abc123"


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def to_toml(settings: Mapping[str, Any]) -> str:
    """The configuration file: `budget` is a list of tables, a dict is a table, the rest is plain."""
    lines, tables = [], []
    for key, value in settings.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            tables += [f"\n[[{key}]]\n" + _pairs(table) for table in value]
        elif isinstance(value, dict):
            tables.append(f"\n[{key}]\n" + _pairs(value))
        else:
            lines.append(_pairs({key: value}))
    return "".join(lines + tables)


def _pairs(table: Mapping[str, Any]) -> str:
    # A JSON string, number, boolean or list of them is the same in TOML.
    return "".join(f"{json.dumps(key)} = {json.dumps(value)}\n" for key, value in table.items())


def environment(**changes: str) -> dict[str, str]:
    """This process's environment without anything that configures taximeter or a client."""
    foreign = ("TAXIMETER_", "OPENAI_", "COVERAGE_", "PROMETHEUS_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    kept.pop("PYTEST_CURRENT_TEST", None)
    return kept | {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1", "NO_COLOR": "1"} | changes


@dataclass
class Taximeter:
    """A running `taximeter serve`."""

    url: str
    ops_url: str
    config: Path
    data_dir: Path
    process: subprocess.Popen[bytes]
    log_file: Path
    environ: Mapping[str, str]
    stopped: bool = False
    killed: bool = False

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def workers(self) -> list[int]:
        """Process ids of its workers that live. Linux only."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it ends while we look
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                command = (entry / "cmdline").read_bytes()
                if int(parent) == self.process.pid and state != "Z" and b"proxy.server\0" in command:
                    found.append(int(entry.name))
        return found

    async def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another command of taximeter with the same configuration."""
        return await run_cli(*arguments, environ=self.environ, cwd=self.config.parent)

    async def json(self, *arguments: str) -> Any:
        done = await self.cli(*arguments, "--json")
        assert done.returncode == 0, f"{arguments}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return json.loads(done.stdout)

    async def report(self, *arguments: str, requests: int) -> Any:
        """`report --json` as soon as so many requests are settled: the client's last byte does not wait for that."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            report = await self.json("report", *arguments)
            if report["total"]["requests"] >= requests or time.monotonic() > deadline:
                return report
            await asyncio.sleep(0.1)

    async def scrape(self) -> Scrape:
        reply = await get(f"{self.ops_url}/metrics")
        assert reply.status == 200, reply
        return Scrape(reply.body.decode())

    async def scrape_until(self, wanted: Callable[[Scrape], bool], seconds: float = SETTLE_SECONDS) -> Scrape:
        """The first scrape that is as wanted, or the last one when time is up: assert on what comes back."""
        deadline = time.monotonic() + seconds
        while True:
            scrape = await self.scrape()
            if wanted(scrape) or time.monotonic() > deadline:
                return scrape
            await asyncio.sleep(0.05)

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end, wait, and give its exit code."""
        self.stopped = True
        self.process.send_signal(how)
        return await wait_for_exit(self.process, STOP_SECONDS)

    async def kill(self) -> None:
        """The supervisor dies at once: there is no exit code 0, and whether more is left is for the test to say."""
        self.killed = True
        self.process.kill()
        await wait_for_exit(self.process, STOP_SECONDS)


def heeds_interrupts() -> None:
    """For a child that a test will interrupt: what runs in the background of a script has SIGINT ignored, and hands
    that on.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)


async def wait_for_exit(process: subprocess.Popen[bytes], seconds: float) -> int:
    deadline = time.monotonic() + seconds
    while (code := process.poll()) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {process.pid} has not ended within {seconds} s")
        await asyncio.sleep(0.02)
    return code


async def run_cli(
    *arguments: str, environ: Mapping[str, str], cwd: Path, seconds: float = 60
) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "proxy.cli.main", *arguments],
        env=environ,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=seconds,
        stdin=subprocess.DEVNULL,
    )


@dataclass
class Prepared:
    """A configuration on disk, ready to be served."""

    config: Path
    environ: Mapping[str, str]
    listen: str
    ops_listen: str
    data_dir: Path


def prepare(directory: Path, upstream: str, /, *, env: Mapping[str, str] | None = None, **settings: Any) -> Prepared:
    """Write `settings` over sensible ones into a configuration file of its own below `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    defaults = {
        "listen": f"127.0.0.1:{free_port()}",
        "ops_listen": f"127.0.0.1:{free_port()}",
        "upstream": upstream,
        "data_dir": str(directory / "data"),
    }
    wanted = defaults | settings
    config = directory / "taximeter.toml"
    config.write_text(to_toml(wanted))
    environ = environment(TAXIMETER_CONFIG=str(config), **(env or {}))
    return Prepared(config, environ, wanted["listen"], wanted["ops_listen"], Path(wanted["data_dir"]))


@asynccontextmanager
async def taximeter(
    directory: Path, upstream: str, /, *, env: Mapping[str, str] | None = None, ready: bool = True, **settings: Any
) -> AsyncIterator[Taximeter]:
    """`taximeter serve`, ready. At the end: SIGTERM, and it must exit 0 without a traceback or a process left behind."""
    prepared = prepare(directory, upstream, env=env, **settings)
    log_file = directory / "serve.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "proxy.cli.main", "serve"],
            env=prepared.environ,
            cwd=directory,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    running = Taximeter(
        f"http://{prepared.listen}",
        f"http://{prepared.ops_listen}",
        prepared.config,
        prepared.data_dir,
        process,
        log_file,
        prepared.environ,
    )
    try:
        await _until_answering(running, "/readyz" if ready else "/healthz")
        yield running
        if not running.stopped and not running.killed:
            await running.stop()
        assert "Traceback" not in running.log(), running.log()
        if not running.killed:
            assert process.returncode == 0, f"exit {process.returncode}\n{running.log()}"
            assert not await left_behind(directory, running.data_dir), f"still running below {directory}"
    except BaseException:
        state = "running" if process.poll() is None else f"exit {process.returncode}"
        print(f"--- log of taximeter ({state}) ---\n{running.log()}\n---")
        raise
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pid in processes_below(directory):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


async def _until_answering(running: Taximeter, path: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert running.process.poll() is None, f"exit {running.process.returncode} at the start\n{running.log()}"
        with suppress(OSError, TimeoutError, IndexError):
            if (await get(running.ops_url + path, timeout=2)).status == 200:
                return
        assert time.monotonic() < deadline, f"{path} not answered in {START_SECONDS} s\n{running.log()}"
        await asyncio.sleep(0.05)


async def left_behind(*directories: Path) -> list[int]:
    """Processes that still work below one of the directories a moment after the end."""
    for _ in range(50):
        if not (left := processes_below(*directories)):
            return []
        await asyncio.sleep(0.1)
    return left


def processes_below(*directories: Path) -> list[int]:
    """Process ids whose working directory is below one of these: workers, and the embedded store. Linux only."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            where = (entry / "cwd").readlink()
            if int(entry.name) != os.getpid() and any(where.is_relative_to(directory) for directory in directories):
                found.append(int(entry.name))
    return found


Start = Callable[..., AbstractAsyncContextManager[Taximeter]]


@dataclass
class Redis7:
    """Debian's redis-server on a free port; `stop` and `start` keep its data."""

    directory: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory), "--save", ""]
        options += ["--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"]
        with (self.directory / "redis.log").open("ab") as log:
            self.process = subprocess.Popen(["redis-server", *options], stdout=log, stderr=log, start_new_session=True)
        for _ in range(500):
            with suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(b"PING\r\n")
                answer = await reader.readline()
                writer.close()
                await writer.wait_closed()
                if answer == b"+PONG\r\n":
                    return
            await asyncio.sleep(0.02)
        raise TimeoutError(f"redis-server does not answer on port {self.port}")

    async def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            await wait_for_exit(self.process, 10)
            self.process = None


@asynccontextmanager
async def running_redis7(directory: Path, port: int | None = None) -> AsyncIterator[Redis7]:
    directory.mkdir(parents=True, exist_ok=True)
    redis = Redis7(directory, port or free_port())
    await redis.start()
    try:
        yield redis
    finally:
        await redis.stop()


def missing_program(name: str) -> str | None:
    """Why a test that needs this program has to skip; None when it is there."""
    return None if shutil.which(name) else f"{name} is not on PATH (a Debian package)"


def chat(model: str, text: str = "How far is it?", **more: Any) -> dict[str, Any]:
    """The body of a chat request."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def one_line(text: str) -> str:
    """The text, which must be a single line and no traceback."""
    lines: Sequence[str] = [line for line in text.splitlines() if line.strip()]
    assert len(lines) == 1, f"not one line:\n{text}"
    assert "Traceback" not in text
    return lines[0]
