"""The real parts that setup.sh installs: where they are, and how each is run."""

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 60.0


def real_dir() -> Path:
    """The same place that setup.sh takes when nobody says otherwise."""
    given = os.environ.get("TAXIMETER_TEST_REAL")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(given) if given else cache / "taximeter-test"


@dataclass(frozen=True, slots=True)
class Part:
    """`command` takes the port to listen on. `missing` says why it cannot run, None when it can."""

    name: str
    command: Callable[[int], list[str]]

    @property
    def missing(self) -> str | None:
        made = real_dir() / self.name / ".made"
        return None if made.exists() else f"{self.name} is not in {real_dir()}: run tests/real/setup.sh"


def smollm2() -> Part:
    """A genuine model, SmolLM2-135M."""
    python = real_dir() / "smollm2" / "bin" / "python"
    script = Path(__file__).parent / "smollm2_server.py"
    return Part("smollm2", lambda port: [str(python), str(script), str(port)])


def aimock(fixtures: Path | None = None) -> Part:
    """npm @copilotkit/aimock: usage only when asked, and then only in the last chunk."""
    binary = real_dir() / "aimock" / "node_modules" / ".bin" / "llmock"
    answers = fixtures or Path(__file__).parent / "aimock"
    return Part("aimock", lambda port: [str(binary), "-h", "127.0.0.1", "-p", str(port), "-f", str(answers)])


def llmock(*options: str) -> Part:
    """PyPI llmock: its stream can break in four ways (`--stream-fault`)."""
    binary = real_dir() / "llmock" / "bin" / "llmock"
    return Part("llmock", lambda port: [str(binary), "serve", "--host", "127.0.0.1", "--port", str(port), *options])


@asynccontextmanager
async def running(part: Part) -> AsyncIterator[int]:
    """The part's port, once it answers there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    process = subprocess.Popen(
        part.command(port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert process.poll() is None, f"{part.name} ended with {process.returncode} at its start"
            with suppress(OSError):
                # While it loads its model, the server listens and answers 503.
                if not (await _first_line(port)).startswith((b"HTTP/1.1 5", b"HTTP/1.0 5")):
                    break
            assert time.monotonic() < deadline, f"{part.name} does not answer after {START_SECONDS} s"
            await asyncio.sleep(0.1)
        yield port
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


async def _first_line(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
        return await reader.readline()
    finally:
        writer.close()
        await writer.wait_closed()
