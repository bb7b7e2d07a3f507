"""`taximeter demo`: everything at work in some seconds, on this machine alone."""

import argparse
import asyncio
import json
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from proxy.cli.options import add_json_argument
from proxy.errors import TaximeterError

if TYPE_CHECKING:
    from proxy.cli.demo_traffic import Ride

HELP = """\
See it all work: no key, no network, under 20 seconds. Starts a small scripted upstream and `taximeter serve` on free
ports with a store of their own, sends base and fine-tuned traffic, whole and streamed, until a budget crosses 80% and
then refuses, and ends with the report: all of it read back from the store."""
EXAMPLE = """\
examples:
  taximeter demo
  taximeter demo --json
  taximeter demo --keep     # then: taximeter report --config DIR/taximeter.toml"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json_argument(parser)
    parser.add_argument("--keep", action="store_true", help="keep the configuration and the data, and say where")


def run(args: argparse.Namespace) -> int:
    directory = Path(tempfile.mkdtemp(prefix="taximeter-demo-"))
    try:
        return asyncio.run(_demo(directory, as_json=args.json))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None  # SIGTERM ends it as Ctrl-C does
    finally:
        if args.keep:
            print(f"Kept in {directory}: taximeter report --config {directory}/taximeter.toml", file=sys.stderr)
        else:
            shutil.rmtree(directory, ignore_errors=True)


async def _demo(directory: Path, *, as_json: bool) -> int:
    # Heavy imports stand here: not for --help.
    from proxy.cli.demo_result import read_back  # noqa: PLC0415
    from proxy.cli.demo_traffic import REQUESTS, demo_city, ride  # noqa: PLC0415

    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with Narrator(REQUESTS, quiet=as_json) as narrator:
        narrator.say("Starting a scripted upstream, and taximeter in front of it, on free ports.")
        async with demo_city(directory) as city:
            narrator.say(f"taximeter listens on {city.base_url} and forwards to {city.upstream.url}")
            found = await ride(city, narrator.seen)
            if found.failures:
                raise TaximeterError(f"demo: {len(found.failures)} requests failed, the first with {found.failures[0]}")
            result = await asyncio.to_thread(read_back, city, found)
    if as_json:
        print(json.dumps(result.as_json(), indent=2))
    else:
        result.show()
    return 0 if result.equal else 1


class Narrator:
    """Tells what happens while it happens: sentences, and on a terminal a progress bar below them."""

    def __init__(self, requests: int, *, quiet: bool) -> None:
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

        # With --json only data may go to stdout; the bar still helps a person who waits.
        self._console = Console(stderr=quiet, highlight=False, markup=False, soft_wrap=True)
        self._quiet = quiet
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self._progress = Progress(*columns, console=self._console, transient=True)
        self._task = self._progress.add_task("requests", total=requests)
        self._told: set[str] = set()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._progress.stop()

    def say(self, sentence: str) -> None:
        if not self._quiet:
            self._console.print(sentence)

    def seen(self, ride: "Ride") -> None:
        """Called after every request: the first crossing and the first refusal are told once."""
        self._progress.update(self._task, completed=ride.sent)
        if ride.crossed_at is not None:
            self._once(
                f"{ride.crossed_at:4} requests sent: the budget {ride.budget} has crossed 80% of ${ride.limit_usd}."
            )
        if ride.first_refusal is not None:
            self._once(f"{ride.refused_at:4} requests sent: the first refusal, as the client sees it:")
            self._once(f'     429 {ride.first_refusal["code"]}: "{ride.first_refusal["message"]}"')

    def _once(self, sentence: str) -> None:
        if sentence not in self._told:
            self._told.add(sentence)
            self.say(sentence)
