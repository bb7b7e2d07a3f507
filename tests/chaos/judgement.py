"""The upstream's true books beside the ledger: each request that was read has one current entry, none has two."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

PREFIX = "{taximeter}:"
TIGHT = 4_000_000
"""Nanos: the limit of the budget `tight`, where there is one."""
Line = Mapping[str, Any]


@dataclass(slots=True)
class Truth:
    """What the upstream has written down, by the client's request id."""

    read: Counter[str] = field(default_factory=Counter)
    usage: dict[str, dict[str, int]] = field(default_factory=dict)
    """Of answers that were whole and said their usage."""

    @classmethod
    def of(cls, books: Path) -> "Truth":
        truth = cls()
        for text in books.read_text().splitlines():
            line = json.loads(text)
            if line["event"] == "read":
                truth.read[line["id"]] += 1
            elif not line["fault"]:
                truth.usage[line["id"]] = line["usage"]
        return truth


def ledger_of(client: redis.Redis) -> list[Line]:
    """Every line, oldest first."""
    lines: Any = client.xrange(f"{PREFIX}ledger")
    return [json.loads(fields["e"]) for _, fields in lines]


def current_of(lines: Iterable[Line]) -> dict[str, Line]:
    """The current entry of every id: the last line that adds one. Reversed for good: none."""
    requests: Counter[str] = Counter()
    last: dict[str, Line] = {}
    firsts: Counter[str] = Counter()
    for line in lines:
        adds = line.get("requests", 1)
        requests[line["id"]] += adds
        firsts[line["id"]] += line["line"] == "entry"
        assert requests[line["id"]] in (0, 1), f"{line['id']} counts {requests[line['id']]} times"
        if adds == 1:
            last[line["id"]] = line
    several = [each for each, number in firsts.items() if number != 1]
    assert not several, f"not exactly one line is the entry of {several[:5]}"
    return {each: line for each, line in last.items() if requests[each] == 1}


@dataclass(slots=True)
class Verdict:
    requests: int = 0
    """Requests that reached the upstream, by its own books."""
    entries: int = 0
    corrected: int = 0
    """Entries that were presumed by somebody else and corrected, or taken back, by who knew better."""
    statuses: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    """Read by the upstream, and without a current entry."""
    double: list[str] = field(default_factory=list)
    """More current entries than the upstream has read requests of this id."""
    repeated: list[str] = field(default_factory=list)
    """Read more than once by the upstream for one attempt of the client."""
    never_read: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Entries of what the upstream never read whole, by status and reason: where nobody can know, presumed."""
    wrong: list[str] = field(default_factory=list)
    """Reported entries whose usage is not the upstream's."""

    @property
    def findings(self) -> list[str]:
        found = [
            f"{len(ids)} {name}: {ids[:3]}"
            for name, ids in (("lost", self.lost), ("double", self.double), ("wrong", self.wrong))
            if ids
        ]
        return found + [
            f"{count} {status} entries of what the upstream never read"
            for (status, _), count in self.never_read.items()
            if status != "presumed"
        ]


def judge(truth: Truth, lines: Iterable[Line]) -> Verdict:
    by_client: defaultdict[str, list[Line]] = defaultdict(list)
    lines = list(lines)
    for line in current_of(lines).values():
        by_client[line["client_request_id"]].append(line)
    corrected = len({line["id"] for line in lines if line["line"] == "correction"})
    verdict = Verdict(requests=sum(truth.read.values()), corrected=corrected)
    for each in truth.read.keys() | by_client.keys():
        read, entries = truth.read[each], by_client.get(each, [])
        verdict.entries += len(entries)
        verdict.statuses.update(entry["status"] for entry in entries)
        if read > 1:
            verdict.repeated.append(each)
        if not read:
            verdict.never_read.update((entry["status"], entry["reason"] or "") for entry in entries)
        verdict.lost += [each] * max(0, read - len(entries))
        verdict.double += [each] * max(0, len(entries) - max(1, read))
        told = truth.usage.get(each)
        for entry in entries:
            usage = entry["usage"]
            if entry["status"] == "reported" and told is not None and usage != _usage(told):
                verdict.wrong.append(f"{each}: {usage} is not {told}")
    return verdict


def _usage(told: Mapping[str, int]) -> dict[str, int]:
    quantities = {"input": told["prompt_tokens"], "output": told["completion_tokens"]}
    return {kind: number for kind, number in quantities.items() if number}


def out_of_balance(client: redis.Redis, lines: Iterable[Line]) -> list[str]:
    """What is wrong with the budgets of a store at rest: spent = Σ entries and corrections, held = 0, nothing is left."""
    moved: Counter[str] = Counter()
    for line in lines:
        for _, account, nanos in line["moved"]:
            moved[account] += nanos or 0
    found = []
    accounts = {key.removeprefix(f"{PREFIX}committed:") for key in client.scan_iter(f"{PREFIX}committed:*")}
    for account in sorted(accounts | moved.keys()):
        committed = int(client.get(f"{PREFIX}committed:{account}") or 0)
        held = int(client.get(f"{PREFIX}held:{account}") or 0)
        if held:
            found.append(f"{account} holds {held}")
        if committed - held != moved[account]:
            found.append(f"{account} has spent {committed - held}, its entries say {moved[account]}")
    tight = int(client.get(f"{PREFIX}committed:tight/total") or 0)
    if tight > TIGHT:
        found.append(f"the budget that refuses has spent {tight} of {TIGHT}")
    for pattern in ("holds:*", "background:*"):
        found += [f"{key} has {client.hlen(key)}" for key in client.scan_iter(PREFIX + pattern) if client.hlen(key)]
    return found
