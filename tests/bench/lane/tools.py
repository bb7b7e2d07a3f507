"""The two C programs, compiled when they are needed: the load and the upstream."""

import functools
import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[2]


@functools.cache
def compiled(name: str) -> Path:
    """The program made from `name`.c, compiled again only when a source has changed."""
    folder = REPOSITORY / "build" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / name
    newest = max(path.stat().st_mtime for path in HERE.glob("*.[ch]"))
    if not program.exists() or program.stat().st_mtime < newest:
        with tempfile.TemporaryDirectory(dir=folder) as made:
            fresh = Path(made) / name
            subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-o", str(fresh), str(HERE / f"{name}.c")], check=True)
            fresh.replace(program)  # in one step: another run may start it at this moment
    return program


@dataclass(frozen=True)
class Request:
    """One HTTP request, byte for byte as the load sends it."""

    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]

    def encoded(self) -> bytes:
        body = json.dumps(self.body, separators=(",", ":")).encode()
        lines = [f"POST {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in self.headers.items())]
        return ("\r\n".join([*lines, f"Content-Length: {len(body)}"]) + "\r\n\r\n").encode() + body


class Load:
    """A running load generator. `arguments` as in the head of load.c."""

    def __init__(self, request: Request, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [str(compiled("load")), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=False
        )
        assert self.process.stdin is not None
        self.process.stdin.write(request.encoded())
        self.process.stdin.close()

    def result(self) -> dict[str, Any]:
        """Its figures, once it prints them: at its end, or when all idle connections are open."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the load generator ended with {self.process.wait()}")
        figures: dict[str, Any] = json.loads(line)
        return figures

    def end(self) -> dict[str, Any] | None:
        """Break it off; what it had measured, where it had not said so yet."""
        assert self.process.stdout is not None
        self.process.terminate()
        rest = self.process.stdout.read()
        self.process.wait(30)
        return json.loads(rest) if rest else None


def load(request: Request, *arguments: object) -> dict[str, Any]:
    """Run the load to its end."""
    running = Load(request, *map(str, arguments))
    figures = running.result()
    running.process.wait(30)
    return figures


class Upstream:
    """The running upstream. What a stream is can be changed while it runs, so that proxies keep their connections."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        self.port = int(process.stdout.readline())

    def _order(self, text: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def streams_are(self, *, chunks: int, every_us: int) -> None:
        """From now on a stream has so many chunks, one every so often (0: as fast as they are taken)."""
        assert self._order(f"set {chunks} {every_us}") == "ok\n"

    def counts(self) -> dict[str, int]:
        """What it sent since its start: replies and chunks; and streams that the reader left."""
        numbers = map(int, self._order("count").split())
        return dict(zip(("whole", "streams", "chunks", "broken"), numbers, strict=True))

    def asked(self) -> int:
        """How many requests it answered, or began to."""
        counts = self.counts()
        return counts["whole"] + counts["streams"]


@contextmanager
def upstream() -> Iterator[Upstream]:
    process = subprocess.Popen(
        [str(compiled("upstream"))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        yield Upstream(process)
    finally:
        process.kill()
        process.communicate()
