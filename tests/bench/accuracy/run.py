"""How exact are taximeter, litellm and genai-prices? The same table (tests/rates/cases.csv) for each.

    python tests/bench/accuracy/run.py [--cache DIR] [--show litellm]

Each peer is asked through its public interface, in an environment of its own, with everything of the case that the
interface can be told. An answer is right when it rounds to the same nano-dollar.

exact     the expected amount
wrong     another amount, without a word
missing   an error, or no way to be told the case (a date, a tool, a data-residency endpoint)

Cases without a price (an unknown fine-tune, a tier that is not offered) are counted apart: who refuses is right.
Not a part of continuous integration: it installs some forty packages, and needs a package index.
"""

import argparse
import csv
import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from rates import NotPriced, Usage, load_catalogue, parse_model_name, price

HERE = Path(__file__).parent
CASES = HERE.parents[1] / "rates" / "cases.csv"
SMALL_ENOUGH = Decimal("0.5")  # nano-dollars: half of what is rounded


@dataclass(frozen=True)
class Peer:
    """`without_dependencies`: its own pins cannot always be met (litellm 1.109.1 wants tomorrow's certifi)."""

    name: str
    version: str
    without_dependencies: bool = False
    needs: tuple[str, ...] = ()


PEERS = (
    Peer(
        "litellm",
        "1.109.1",
        without_dependencies=True,
        needs=(
            *("httpx[http2]>=0.28,<1", "openai>=2.20,<4", "python-dotenv", "pyyaml", "packaging", "certifi"),
            *("importlib-metadata>=8,<9", "tiktoken<1", "tokenizers<1", "huggingface-hub<2", "click", "jinja2"),
            *("aiohttp<4", "anyio<5", "pydantic<3", "pydantic-settings", "jsonschema", "fastuuid", "filelock", "boto3"),
        ),
    ),
    Peer("genai-prices", "0.2.3"),
)


def read_cases() -> list[dict[str, Any]]:
    with CASES.open(encoding="utf-8", newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    for row in rows:
        parts = (part.partition("=") for part in row["usage"].split(";") if part)
        row["usage"] = {kind: int(number) for kind, _, number in parts}
    return rows


def ours(cases: list[dict[str, Any]]) -> list[str | None]:
    """What taximeter says, in US dollars; None: it says that it has no price."""
    catalogue = load_catalogue()
    answers: list[str | None] = []
    for case in cases:
        try:
            found = catalogue.find(
                parse_model_name(case["id"]),
                provider=case["provider"],
                tier=case["tier"] or None,
                at=datetime.fromisoformat(case["at"]),
                resident=bool(case["residency"]),
            )
            answers.append(str(Decimal(price(Usage.of(case["usage"]), found.card).nanos) / 10**9))
        except NotPriced:
            answers.append(None)
    return answers


def theirs(peer: Peer, cases: list[dict[str, Any]], cache: Path) -> list[str | None]:
    python = environment(peer, cache)
    script = HERE / f"ask_{peer.name.replace('-', '_')}.py"
    done = subprocess.run(
        [str(python), str(script)], input=json.dumps(cases), capture_output=True, text=True, check=False, cwd=cache
    )
    if done.returncode:
        sys.exit(f"{script.name} failed:\n{done.stderr[-4000:]}")
    answers: list[str | None] = json.loads(done.stdout.splitlines()[-1])
    assert len(answers) == len(cases)
    return answers


def environment(peer: Peer, cache: Path) -> Path:
    """The interpreter of the peer's own environment, made when it is not there yet."""
    folder = cache / f"{peer.name}-{peer.version}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print(f"setting up {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        if peer.needs:
            subprocess.run([*pip, *peer.needs], check=True)
        options = ["--no-deps"] if peer.without_dependencies else []
        subprocess.run([*pip, *options, f"{peer.name}=={peer.version}"], check=True)
        (folder / "complete").touch()
    return python


def verdict(expected: str, answer: str | None) -> str:
    if not expected:
        return "refused" if answer is None else "priced"
    if answer is None:
        return "missing"
    off = abs(Decimal(answer) - Decimal(expected)) * 10**9
    return "exact" if off <= SMALL_ENOUGH else "wrong"


def group(case: dict[str, Any]) -> str:
    return "fine-tuned" if parse_model_name(case["id"]).fine_tuned else "base"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "taximeter-bench", metavar="DIR")
    parser.add_argument("--show", metavar="NAME", help="list the cases that this one gets wrong or has not")
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    cases = read_cases()
    answers = {"taximeter": ours(cases)}
    for peer in PEERS:
        answers[f"{peer.name} {peer.version}"] = theirs(peer, cases, args.cache)

    priced = sum(1 for case in cases if case["usd"])
    print(f"{len(cases)} cases: {priced} with a price, {len(cases) - priced} without\n")
    print(f"{'':22}  {'':10}  {'exact':>6} {'wrong':>6} {'missing':>8}   {'refused':>8} {'priced all the same':>20}")
    for name, given in answers.items():
        counts: dict[str, Counter[str]] = {"fine-tuned": Counter(), "base": Counter()}
        for case, answer in zip(cases, given, strict=True):
            found = verdict(case["usd"], answer)
            counts[group(case)][found] += 1
            if args.show and name.startswith(args.show) and found not in ("exact", "refused"):
                asked = f"{case['id']} {case['tier']} {case['at'][:10]} {case['usage']}"
                print(f"  {found}: {asked}: {answer}, not {case['usd'] or 'a price'} ({case['why']})")
        for kind, count in (*counts.items(), ("all", counts["fine-tuned"] + counts["base"])):
            numbers = f"{count['exact']:>6} {count['wrong']:>6} {count['missing']:>8}"
            print(f"{name:22}  {kind:10}  {numbers}   {count['refused']:>8} {count['priced']:>20}")


if __name__ == "__main__":
    main()
