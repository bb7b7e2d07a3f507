"""`make chaos`: traffic while everything is killed, stopped and cut; afterwards the books must be whole.

`python -m tests.chaos.storm --seconds 300 --seed 7`. Exit 1 with the findings when they are not.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.crowd import Crowd
from tests.chaos.faults import Done, Faults
from tests.chaos.judgement import PREFIX, TIGHT, Truth, Verdict, judge, out_of_balance
from tests.chaos.town import Town, town

QUIET_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Outcome:
    seed: int
    verdict: Verdict
    faults: list[Done]
    clients: Counter[str]
    findings: list[str]
    quiet_seconds: float
    tight: int
    """Nanos that the budget which refuses has spent."""

    def text(self) -> str:
        verdict = self.verdict
        kinds = Counter(done.kind for done in self.faults)
        proofs = {done.kind: done.proof for done in self.faults}
        lines = [
            f"seed {self.seed}: {verdict.requests} requests reached the upstream",
            f"{verdict.entries} entries, {verdict.corrected} of them corrected",
            f"clients saw: {dict(sorted(self.clients.items()))}",
            *(f"  {number:3} {kind:22} the last: {proofs[kind]}" for kind, number in sorted(kinds.items())),
            f"quiet after {self.quiet_seconds:.1f} s; the budget that refuses has spent {self.tight:,} of {TIGHT:,} nanos",
            " ".join(
                f"{status} {verdict.statuses[status]}" for status in ("reported", "estimated", "presumed", "failed")
            )
            + f" unpriced {verdict.statuses['unpriced']} lost {len(verdict.lost)} double {len(verdict.double)}"
            + f" repeated {len(verdict.repeated)}",
            "presumed though the upstream never read them, by reason: "
            + str({reason: number for (_, reason), number in sorted(verdict.never_read.items())}),
            *(f"FINDING {finding}" for finding in self.findings),
        ]
        return "\n".join(lines)


async def storm(directory: Path, seconds: float, seed: int, only: str = "") -> Outcome:
    """Traffic and faults for so long, then peace, then judgement."""
    async with town(directory) as place:
        crowd = Crowd([proxy.port for proxy in place.proxies], seed)
        faults = Faults(place, random.Random(seed), only)
        async with asyncio.TaskGroup() as group:
            group.create_task(crowd.run(seconds))
            group.create_task(faults.run(seconds))
        begun = time.monotonic()
        lines = await place.quiet(QUIET_SECONDS)
        (directory / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (directory / "clients.jsonl").write_text("".join(json.dumps(note) + "\n" for note in crowd.notes))
        (directory / "faults.txt").write_text("".join(f"{done}\n" for done in faults.done))
        quiet_seconds = time.monotonic() - begun
        verdict = judge(Truth.of(place.upstream.books), lines)
        findings = verdict.findings + await _after(place)
        with place.store.client() as client:
            findings += out_of_balance(client, lines)
            tight = int(client.get(f"{PREFIX}committed:tight/total") or 0)
        if crowd.outcomes["hung"]:
            findings.append(f"{crowd.outcomes['hung']} clients were left hanging")
        return Outcome(seed, verdict, faults.done, crowd.outcomes, findings, quiet_seconds, tight)


async def _after(place: Town) -> list[str]:
    """What the proxies themselves say: `ledger verify`, an end in order, no traceback in a log."""
    verified = await place.proxies[0].cli("ledger", "verify")
    found = (
        []
        if verified.returncode == 0
        else [f"ledger verify: exit {verified.returncode} {verified.stdout}{verified.stderr}"]
    )
    for proxy in place.proxies:
        code = await proxy.stop()
        if code:
            found.append(f"{proxy.directory.name} ends with exit code {code}")
        if "Traceback" in proxy.log():
            found.append(f"a traceback in {proxy.log_file}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--only", default="", help="kinds of faults, such as store,worker: those that begin so")
    parser.add_argument("--directory", type=Path, help="keep logs and books there")
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.seconds:g} seconds", flush=True)
    with tempfile.TemporaryDirectory(prefix="taximeter-chaos-") as temporary:
        outcome = asyncio.run(storm(options.directory or Path(temporary), options.seconds, options.seed, options.only))
    print(outcome.text())
    return 1 if outcome.findings else 0


if __name__ == "__main__":
    sys.exit(main())
