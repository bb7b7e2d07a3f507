"""The demo's city: a scripted upstream, a real `taximeter serve` in front of it, and passengers.

Everything is on free ports and below one temporary directory; leaving `demo_city` stops all of it, whatever happened.
"""

import asyncio
import json
import random
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from proxy.cli.demo_upstream import ScriptedUpstream
from proxy.config import Config, load_config
from proxy.config.environment import process_environ
from proxy.errors import TaximeterError

BUDGET = "demo-acme"
LIMIT_USD = "0.02"
ALERT_AT = 0.8
FINE_TUNES = (
    "ft:gpt-4o-mini-2024-07-18:acme::abc123",
    "ft:gpt-4.1-mini-2025-04-14:acme:router:B2c3D4e5",
)
BASES = ("gpt-4o-mini", "gpt-4.1-mini", "gpt-4o-mini", "gpt-4o")
REQUESTS = 160
AT_A_TIME = 4
START_SECONDS = 15.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.05
KEY = "sk-demo"
SENTENCE = "Passenger {number} asks how far it is, and what it costs. "


@dataclass(slots=True)
class Ride:
    """What the passengers saw. `…_at` counts the requests that had been sent by then."""

    budget: str = BUDGET
    limit_usd: str = LIMIT_USD
    sent: int = 0
    refused: int = 0
    refused_at: int | None = None
    first_refusal: dict[str, Any] | None = None
    crossed_at: int | None = None
    crossed_ratio: float | None = None
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class City:
    config: Config
    upstream: ScriptedUpstream

    @property
    def base_url(self) -> str:
        return f"http://{self.config.listen}/v1"

    @property
    def ops_url(self) -> str:
        return f"http://{self.config.ops_listen}"


@asynccontextmanager
async def demo_city(directory: Path) -> AsyncIterator[City]:
    """Everything running, and `/readyz` says so."""
    async with ScriptedUpstream(chunk_seconds=0.01) as upstream:
        file = directory / "taximeter.toml"
        file.write_text(_configuration(directory, upstream.url))
        city = City(load_config({"config": str(file)}, environ={}, with_upstream_key=False), upstream)
        log = directory / "serve.log"
        serve = await _serve(file, directory, log)
        try:
            await _ready(city, serve, log)
            yield city
        finally:
            await _stop(serve)


async def ride(city: City, seen: Callable[[Ride], None]) -> Ride:
    """Send all the traffic; `seen` is called after each request and when the budget crosses its threshold."""
    found = Ride()
    try:
        await _ride(city, seen, found)
    except* (aiohttp.ClientError, OSError) as lost:
        raise TaximeterError(f"demo: taximeter does not answer any more: {lost.exceptions[0]}") from None
    return found


async def _ride(city: City, seen: Callable[[Ride], None], found: Ride) -> None:
    bodies = iter(_bodies())
    arrived = asyncio.Event()

    async with (
        aiohttp.ClientSession(headers={"authorization": f"Bearer {KEY}"}) as session,
        asyncio.TaskGroup() as group,
    ):

        async def passenger() -> None:
            for body in bodies:
                await _request(city, session, body, found)
                seen(found)

        async def watch() -> None:
            while not arrived.is_set() and found.crossed_at is None:
                ratio = await _used_ratio(city, session)
                if ratio is not None and ratio >= ALERT_AT:
                    found.crossed_at, found.crossed_ratio = found.sent, ratio
                    seen(found)
                await asyncio.sleep(POLL_SECONDS)

        group.create_task(watch())
        await asyncio.gather(*(group.create_task(passenger()) for _ in range(AT_A_TIME)))
        await asyncio.sleep(4 * POLL_SECONDS)  # the last charges may still be on their way
        arrived.set()


def _configuration(directory: Path, upstream: str) -> str:
    quoted = json.dumps  # a JSON string is a TOML string
    listen, ops_listen = _free_addresses(2)
    return f"""\
listen = {quoted(listen)}
ops_listen = {quoted(ops_listen)}
upstream = {quoted(upstream)}
upstream_key_env = "TAXIMETER_DEMO_KEY"
data_dir = {quoted(str(directory / "data"))}

[[budget]]
name = "demo-everything"
limit_usd = "1"
period = "month"

[[budget]]
name = "{BUDGET}"
limit_usd = "{LIMIT_USD}"
period = "month"
fine_tuned = true
alert_at = [{ALERT_AT}, 1.0]
"""


def _free_addresses(count: int) -> list[str]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes]
    finally:
        for probe in probes:
            probe.close()


async def _serve(file: Path, directory: Path, log: Path) -> Process:
    # What configures another taximeter in this shell must not reach the demo's: variables win over the file.
    environ = {name: value for name, value in process_environ().items() if not name.startswith("TAXIMETER_")}
    with log.open("wb") as out:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "proxy.cli.main", "serve", "--config", str(file)),
            cwd=directory,
            env=environ,
            stdin=DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,  # Ctrl-C is for the demo, which then stops serve in order
        )


async def _ready(city: City, serve: Process, log: Path) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(int(START_SECONDS / POLL_SECONDS)):
            if serve.returncode is not None:
                break
            with suppress(aiohttp.ClientError):
                async with session.get(f"{city.ops_url}/readyz") as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(POLL_SECONDS)
    raise TaximeterError(f"demo: serve did not start: {_last_line(log)}")


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


async def _stop(serve: Process) -> None:
    if serve.returncode is None:
        serve.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await serve.wait()
    except TimeoutError:
        serve.kill()
        await serve.wait()


def _bodies() -> Sequence[dict[str, Any]]:
    """The same traffic in every demo: base and fine-tuned models, whole and streamed, short and long prompts."""
    chance = random.Random(4711)  # noqa: S311 - a script, not a secret
    bodies = []
    for number in range(REQUESTS):
        model = chance.choice(FINE_TUNES if number % 2 else BASES)
        text = SENTENCE.format(number=number) * chance.randint(20, 120)
        body: dict[str, Any] = {"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": text}]}
        if chance.random() < 0.5:
            body["stream"] = True
        bodies.append(body)
    return bodies


async def _request(city: City, session: aiohttp.ClientSession, body: dict[str, Any], found: Ride) -> None:
    found.sent += 1
    async with session.post(f"{city.base_url}/chat/completions", json=body) as response:
        content = await response.read()
    if response.status == 429:
        found.refused += 1
        if found.first_refusal is None:
            found.first_refusal, found.refused_at = json.loads(content)["error"], found.sent
    elif response.status != 200:
        found.failures.append(f"{response.status}: {content[:200].decode(errors='replace')}")


async def _used_ratio(city: City, session: aiohttp.ClientSession) -> float | None:
    async with session.get(f"{city.ops_url}/metrics") as response:
        text = await response.text()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "taximeter_budget_used_ratio" and sample.labels.get("budget") == BUDGET:
                return sample.value
    return None
