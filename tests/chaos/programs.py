"""Processes that a test kills, stops and starts again: the proxies, the upstream, the cutter. All on 127.0.0.1."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.system.harness import environment, free_port, prepare, processes_below, run_cli
from tests.system.ops import Scrape, get

START_SECONDS = 60.0
STOP_SECONDS = 60.0


def state_of(pid: int) -> str:
    """The kernel's letter for a process: R, S, T (stopped), Z; empty when it is gone."""
    return _state_and_parent(pid)[0]


def _state_and_parent(pid: int) -> tuple[str, int]:
    with suppress(OSError):
        state, parent, *_ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return state, int(parent)
    return "", 0


class Program:
    """A command with a log file, in a session of its own. Its directory is its working directory."""

    def __init__(self, command: Sequence[str], directory: Path, environ: dict[str, str] | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.log_file = directory / "log"
        self._command = [sys.executable, "-m", *command]
        self._environ = (environ or environment()) | {"PYTHONPATH": str(Path(__file__).parents[2])}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def launch(self) -> None:
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environ,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    async def start(self) -> None:
        """Launch it until it answers: what was killed a moment ago may still hold the port, as with any supervisor."""
        deadline = time.monotonic() + START_SECONDS
        self.launch()
        while not await self.answers():
            assert time.monotonic() < deadline, f"{self.directory} does not come up\n{self.log()[-4000:]}"
            await asyncio.sleep(0.1)
            if not self.is_running:
                self.launch()

    async def answers(self) -> bool:
        raise NotImplementedError

    def members(self) -> list[int]:
        """Every process of it."""
        return [self.pid] if self.is_running else []

    async def kill(self) -> None:
        """SIGKILL to every process of it, in one go: the machine has lost its power."""
        victims = self.members()
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await self._gone(victims)

    async def _gone(self, pids: Sequence[int]) -> None:
        deadline = time.monotonic() + STOP_SECONDS
        while any(state_of(pid) not in ("", "Z") for pid in pids):
            assert time.monotonic() < deadline, f"{pids} do not end"
            await asyncio.sleep(0.01)
        if self._process is not None and self._process.pid in pids:
            self._process.wait()

    async def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self._process is not None
        self._process.terminate()
        try:
            return await asyncio.to_thread(self._process.wait, STOP_SECONDS)
        except subprocess.TimeoutExpired:
            await self.kill()
            raise


class Upstream(Program):
    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.books = directory / "books.jsonl"
        super().__init__(("tests.chaos.upstream", str(self.port), str(self.books)), directory)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def answers(self) -> bool:
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.close()
            return True
        return False


class Proxy(Program):
    """`taximeter serve` with ports and a data directory that outlive it."""

    def __init__(self, directory: Path, upstream: str, **settings: Any) -> None:
        self.prepared = prepare(directory, upstream, **settings)
        super().__init__(("proxy.cli.main", "serve"), directory, dict(self.prepared.environ))
        self.base_url = f"http://{self.prepared.listen}/v1"
        self.port = int(self.prepared.listen.rpartition(":")[2])
        self.ops_url = f"http://{self.prepared.ops_listen}"

    async def answers(self) -> bool:
        with suppress(OSError, TimeoutError, IndexError, ValueError):
            return (await get(f"{self.ops_url}/readyz", timeout=2)).status == 200
        return False

    async def scrape(self) -> Scrape:
        return Scrape((await get(f"{self.ops_url}/metrics")).body.decode())

    def members(self) -> list[int]:
        return [pid for pid in processes_below(self.directory) if state_of(pid) not in ("", "Z")]

    def workers(self) -> list[int]:
        """The supervisor's children: not those that an earlier one has left behind, and that are leaving."""
        return [pid for pid in self.members() if _state_and_parent(pid)[1] == self.pid]

    async def kill_supervisor(self) -> None:
        """Only the supervisor: its workers notice, and leave by themselves."""
        os.kill(self.pid, signal.SIGKILL)
        await self._gone([self.pid])

    async def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return await run_cli(*arguments, environ=self._environ, cwd=self.directory, seconds=120)


class Cutter:
    """Relays ports to ports, and cuts what flows when it is told to."""

    def __init__(self, targets: Sequence[int]) -> None:
        self._targets = list(targets)
        self.ports = [free_port() for _ in targets]
        self._turn = asyncio.Lock()  # an order and its answer
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        routes = [f"{port}:{target}" for port, target in zip(self.ports, self._targets, strict=True)]
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.chaos.cutter", *routes),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment(PYTHONPATH=str(Path(__file__).parents[2])),
        )
        assert await self._line() == "ready"

    async def order(self, *words: object) -> int:
        """`cut PORT fin|reset`, `lose PORT`, `shut PORT`, `open PORT`: how many connections it met."""
        assert self._process is not None
        assert self._process.stdin is not None
        async with self._turn:
            self._process.stdin.write(f"{' '.join(map(str, words))}\n".encode())
            return int(await self._line())

    async def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.wait()

    async def _line(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(10):
            return (await self._process.stdout.readline()).decode().strip()
