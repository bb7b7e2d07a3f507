"""One repetition: every subject through its scenarios, each start before an upstream of its own."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench.lane import subjects
from tests.bench.lane.scenarios import FRESH, SCENARIOS, SETTLED_SECONDS, BadRunError, Figures, Run, Size
from tests.bench.lane.subjects import Place, Running, Subject
from tests.bench.lane.tools import Upstream, upstream

ACCOUNTED_WITHIN = 30.0


@dataclass(frozen=True)
class Cores:
    """Which cores belong to whom. One for the proxy, the others for load, upstream and store; all are shared where
    there are not enough of them."""

    proxy: frozenset[int]
    rest: frozenset[int]

    @classmethod
    def of(cls, available: Sequence[int], workers: int) -> "Cores":
        if len(available) <= workers:
            return cls(frozenset(available), frozenset(available))
        return cls(frozenset(available[:workers]), frozenset(available[workers:]))

    def __str__(self) -> str:
        if self.proxy == self.rest:
            return "all cores shared"
        return f"proxy on {_listed(self.proxy)}; load, upstream and store on {_listed(self.rest)}"


def _listed(cores: frozenset[int]) -> str:
    return f"core{'s' if len(cores) > 1 else ''} {','.join(map(str, sorted(cores)))}"


@contextmanager
def started(subject: Subject, cores: Cores, **settings: object) -> Iterator[tuple[Running, Upstream]]:
    """The subject and its upstream, up. At the end: every request that reached the upstream was accounted for, once."""
    with tempfile.TemporaryDirectory(prefix="lane-") as folder, upstream() as behind:
        directory = Path(folder)
        place = Place(_made(directory / "proxy"), behind.port, cores.proxy, cores.rest, settings=settings)
        if subject.tls:
            ca, certificate, key = certificates(directory)
            front = subjects.tls_in_front(replace(place, directory=_made(directory / "tls")), certificate, key)
            with front as port, subject.start(replace(place, upstream=port, ca=ca)) as up:
                yield up, behind
                _check_account(up, behind)
        else:
            with subject.start(place) as up:
                yield up, behind
                _check_account(up, behind)


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def certificates(directory: Path) -> tuple[Path, Path, Path]:
    """A certificate authority and a certificate for localhost that it signed: both for this run alone."""
    ca, ca_key, request, certificate, key, names = (
        directory / name for name in ("ca.pem", "ca.key", "request", "cert.pem", "cert.key", "names")
    )
    names.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    signed = ["-CA", ca, "-CAkey", ca_key, "-CAcreateserial"]
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    for arguments in (
        ["req", "-x509", *new, "-days", "2", "-subj", "/CN=lane CA", "-keyout", ca_key, "-out", ca],
        ["req", *new, "-subj", "/CN=localhost", "-keyout", key, "-out", request],
        ["x509", "-req", "-in", request, "-days", "2", *signed, "-extfile", names, "-out", certificate],
    ):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
    return ca, certificate, key


def _check_account(up: Running, behind: Upstream) -> None:
    deadline = time.monotonic() + ACCOUNTED_WITHIN
    while (got := up.entries()) is not None and got != (wanted := behind.asked()):
        if time.monotonic() > deadline:
            raise BadRunError(f"the upstream was asked {wanted} times, accounted for are {got}")
        time.sleep(0.2)


def measure(subject: Subject, cores: Cores, size: Size, wanted: Sequence[str]) -> Mapping[str, Figures]:
    """The figures of each scenario; a subject that fails one is told on stderr, and has no figures there."""
    names = [name for name in wanted if not subject.only or name in subject.only]
    groups = [[name for name in names if name not in FRESH], *([name] for name in names if name in FRESH)]
    figures: dict[str, Figures] = {}
    starts: list[float] = []
    for group in filter(None, groups):
        try:
            with started(subject, cores) as (up, behind):
                if up.start_seconds is not None:
                    starts.append(up.start_seconds)
                time.sleep(SETTLED_SECONDS)
                for name in group:
                    print(f"  {subject.name}: {name}", file=sys.stderr, flush=True)
                    try:
                        figures[name] = SCENARIOS[name](Run(up, behind, size))
                    except BadRunError as error:
                        print(f"  {subject.name}: {name}: {error}", file=sys.stderr)
        except (BadRunError, RuntimeError) as error:
            for name in group:
                figures.pop(name, None)
            print(f"  {subject.name}: {error}", file=sys.stderr)
    if starts and "memory" in names:
        figures["start"] = {"start_s": sorted(starts)[len(starts) // 2]}
    return figures
