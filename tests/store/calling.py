"""Calls apply.lua as a connection does, and looks at what came of it."""

import json
from typing import Any

import redis

from proxy.budgets import Account
from proxy.store import keys
from proxy.store.finished import Charge, Park
from proxy.store.operations import Operation, Swept, packed
from proxy.store.script import SOURCE, Script
from tests.store.cases import TODAY, entry, opened, parked_request


class Caller:
    """Calls the script as a connection does, without one."""

    def __init__(self, client: redis.Redis, writer: str = "w", token: str = "token") -> None:
        self._client = client
        self._arguments = Script(None, writer, token)._arguments  # type: ignore[arg-type]
        client.hset(keys.writer(writer), "token", token)

    def call(self, *operations: Operation | Swept) -> list[Any]:
        answers = self._client.eval(SOURCE.decode(), *self._arguments, packed(operations))
        assert isinstance(answers, list)
        return answers


def charge(number: int, entry_id: str, cost: int | None, accounts: list[Account], *, parked: str = "") -> Charge:
    made = Charge(entry(entry_id, cost), accounts, parked=parked)
    made.number = number
    return made


def park(number: int, entry_id: str, upstream_id: str) -> Park:
    made = Park(parked_request(entry_id), upstream_id, opened(entry_id))
    made.number = number
    return made


def ledger(raw: redis.Redis) -> list[dict[str, Any]]:
    lines: list[Any] = raw.xrange(keys.LEDGER)  # type: ignore[assignment]
    return [json.loads(fields["e"]) for _, fields in lines]


def sums(raw: redis.Redis) -> dict[str, int]:
    """Of all rows together, by quantity."""
    found: dict[str, int] = {}
    fields: dict[str, str] = raw.hgetall(keys.sums(TODAY))  # type: ignore[assignment]
    for name, value in fields.items():
        quantity = name.rpartition("]")[2]
        found[quantity] = found.get(quantity, 0) + int(value)
    return {quantity: value for quantity, value in found.items() if value}


def standing(raw: redis.Redis, of: Account) -> tuple[int, int]:
    """Committed and held."""
    committed, held = (int(str(raw.get(name(of.key)) or 0)) for name in (keys.committed, keys.held))
    return committed, held
