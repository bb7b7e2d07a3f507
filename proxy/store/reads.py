"""Reading budgets and sums, on a connection of its own: a report never sits in front of a charge."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import msgspec

from proxy.budgets import Account, Budget, Owner, Period
from proxy.budgets.account import series_of
from proxy.errors import StoreAway
from proxy.ledger.parked import Parked
from proxy.ledger.sums import SumKey, SumRow
from proxy.store import keys
from proxy.store.address import Address
from proxy.store.wire import Wire
from rates.money import Nanos

ACCOUNTS_A_CALL = 500
LONGEST_SECONDS = 10.0  # for what no request waits for

_parked = msgspec.json.Decoder(Parked).decode
_row = msgspec.json.Decoder(tuple[str, str, str, str, str, str, str]).decode


@dataclass(frozen=True, slots=True)
class Standing:
    """What an account has spent and holds. Both are read at one moment."""

    account: Account
    spent: Nanos
    held: Nanos

    @property
    def owner_name(self) -> str | None:
        """As people see the owner, where the limit is per owner."""
        identity = self.account.owner_identity
        return None if identity is None else Owner.of_identity(identity).name


class Reads:
    """One question at a time, over a connection that is made when it is needed."""

    def __init__(self, address: Address, timeout: float) -> None:
        self._address = address
        self._timeout = timeout
        self._turn = asyncio.Lock()
        self._wire: Wire | None = None

    async def close(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.close()

    async def ping(self) -> bool:
        """True when the store answers; raises StoreAway or StoreRefused, which say why it does not."""
        return bool(await self.call("PING") == b"PONG")

    async def call(self, *arguments: bytes | str | int, seconds: float | None = None) -> Any:
        """One command, answered within the timeout. What is asked here may be asked twice: a connection that rested

        may have been closed by the other side.
        """
        limit = self._timeout if seconds is None else max(seconds, self._timeout)
        try:
            async with asyncio.timeout(limit), self._turn:
                if self._wire is not None:
                    try:
                        return await self._once(self._wire, arguments)
                    except StoreAway:
                        pass
                return await self._once(await Wire.open(self._address, limit), arguments)
        except TimeoutError:
            raise StoreAway(f"store {self._address.shown}: no answer within {limit:g} s") from None

    async def _once(self, wire: Wire, arguments: Sequence[bytes | str | int]) -> Any:
        # Not ours while an answer is under way: after an interruption it would be the answer to the next question.
        self._wire = None
        try:
            answer = await wire.call(*arguments)
        except BaseException:
            await wire.close()
            raise
        self._wire = wire
        return answer

    async def standings(self, accounts: Sequence[Account]) -> list[Standing]:
        """In the order asked. An account that nothing was ever held or spent in stands at zero."""
        found: list[Standing] = []
        for start in range(0, len(accounts), ACCOUNTS_A_CALL):
            some = accounts[start : start + ACCOUNTS_A_CALL]
            names = (name for account in some for name in (keys.committed(account.key), keys.held(account.key)))
            values = [int(value or 0) for value in await self.call("MGET", *names, seconds=LONGEST_SECONDS)]
            for account, committed, held in zip(some, values[::2], values[1::2], strict=True):
                found.append(Standing(account, committed - held, held))
        return found

    async def parked(self, upstream_id: str) -> list[Parked]:
        """What is parked under a response's id, oldest first."""
        fields = await self.call("HGETALL", keys.background(upstream_id))
        found = [_parked(value.partition(b"\n")[0]) for value in fields[1::2]]
        return sorted(found, key=lambda parked: parked.entry_id)

    async def owners_of(self, budget: Budget, period: Period) -> list[str]:
        """Identities of the owners that have an account of this budget in this period, sorted."""
        members = await self.call("SMEMBERS", keys.owners(series_of(budget, period)), seconds=LONGEST_SECONDS)
        return sorted(member.decode() for member in members)

    async def sums(self, since: date, until: date) -> list[SumRow]:
        """Rows of the days from `since` up to and without `until`, in the order of days."""
        rows: list[SumRow] = []
        for offset in range((until - since).days):
            day = since + timedelta(days=offset)
            fields = await self.call("HGETALL", keys.sums(day), seconds=LONGEST_SECONDS)
            rows += _rows(day.isoformat(), fields)
        return rows


def _rows(day: str, fields: Sequence[bytes]) -> list[SumRow]:
    found: dict[bytes, dict[str, int]] = {}
    for field, value in zip(fields[::2], fields[1::2], strict=True):
        row, bracket, quantity = field.rpartition(b"]")
        found.setdefault(row + bracket, {})[quantity.decode()] = int(value)
    return [
        SumRow(
            day=day,
            key=SumKey(*_row(row)),
            requests=quantities.pop("requests", 0),
            nanos=quantities.pop("nanos", 0),
            quantities=quantities,
        )
        for row, quantities in sorted(found.items())
    ]
