"""Faults, one after the other and two at a time, each with its proof: other pids, another run id, a state T, a count."""

import asyncio
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from tests.chaos.programs import Program, Proxy, state_of
from tests.chaos.town import Town

HEAL_SECONDS = 30.0
STEADY_SECONDS = 5.0
LONG_SECONDS = 75.0
"""Longer than the 45 s after which a writer that does not beat is taken for dead by the others, with time to sweep."""


@dataclass(frozen=True, slots=True)
class Done:
    """A fault that happened. `proof` is what only it can have changed."""

    kind: str
    at: float
    """On the machine's monotonic clock, as in the upstream's books."""
    seconds: float
    proof: str


class NobodyFreeError(Exception):
    """All that this fault could harm is being harmed."""


@dataclass
class Faults:
    """Harms a town at random. Two faults at a time never have the same target."""

    town: Town
    chance: random.Random
    only: str = ""
    """Kinds that begin with one of these words, separated by commas; none: all kinds."""
    done: list[Done] = field(default_factory=list)
    _busy: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    def kinds(self) -> dict[str, Callable[[], Awaitable[str]]]:
        return {
            "worker killed": self.worker_killed,
            "worker stopped": self.worker_stopped,
            "supervisor killed": self.supervisor_killed,
            "proxy killed": self.proxy_killed,
            "proxy stopped": self.proxy_stopped,
            "store killed": self.store_killed,
            "store stopped": self.store_stopped,
            "store cut": self.store_cut,
            "store's answers lost": self.store_answers_lost,
            "upstream killed": self.upstream_killed,
            "upstream stopped": self.upstream_stopped,
            "upstream cut": self.upstream_cut,
        }

    def long_kinds(self) -> dict[str, Callable[[], Awaitable[str]]]:
        return {
            "worker forgotten": self.worker_forgotten,
            "proxy absent": self.proxy_absent,
        }

    async def run(self, seconds: float) -> None:
        """Every kind comes once before one comes again. Whatever was broken is whole again at the end."""
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(self._hand(until))
            if seconds > 3 * LONG_SECONDS and not self.only:
                group.create_task(self._long())

    async def _long(self) -> None:
        """Mistaken for dead by the sweeper: a worker that then goes on, and a proxy that then starts again."""
        for kind in ("worker forgotten", "proxy absent"):
            await asyncio.sleep(LONG_SECONDS / 4)
            await self.commit(kind)

    async def _hand(self, until: float) -> None:
        kinds = [kind for kind in sorted(self.kinds()) if kind.startswith(tuple(self.only.split(",")))]
        deck: list[str] = []
        while time.monotonic() < until:
            if not deck:
                deck = self.chance.sample(kinds, len(kinds))
            await self.commit(deck.pop())
            await asyncio.sleep(self.chance.uniform(0.1, 1.2))

    async def commit(self, kind: str) -> None:
        begun = time.monotonic()
        with suppress(NobodyFreeError):
            proof = await (self.kinds() | self.long_kinds())[kind]()
            self.done.append(Done(kind, begun, time.monotonic() - begun, proof))

    # ---- proxies and their workers

    async def worker_killed(self) -> str:
        async with self._free_proxy() as proxy:
            before = set(proxy.workers())
            victim = self.chance.choice(sorted(before))
            os.kill(victim, signal.SIGKILL)
            after = await _until(lambda: _replaced(proxy, before, victim))
            return f"pid {victim} → {sorted(after - before)}"

    async def worker_stopped(self) -> str:
        async with self._free_proxy() as proxy:
            return await self._stopped([self.chance.choice(proxy.workers())])

    async def supervisor_killed(self) -> str:
        async with self._free_proxy() as proxy:
            before = proxy.pid
            await proxy.kill_supervisor()
            await proxy.start()
            return f"pid {before} → {proxy.pid}"

    async def proxy_killed(self) -> str:
        async with self._free_proxy() as proxy:
            return await self._killed(proxy)

    async def proxy_stopped(self) -> str:
        async with self._free_proxy() as proxy:
            return await self._stopped(proxy.members())

    async def worker_forgotten(self) -> str:
        async with self._both_proxies() as (_, proxy):
            await asyncio.sleep(STEADY_SECONDS)  # one that does not become ready would rightly be replaced
            return await self._stopped([self.chance.choice(proxy.workers())], LONG_SECONDS)

    async def proxy_absent(self) -> str:
        async with self._both_proxies() as (proxy, _):
            return await self._killed(proxy, LONG_SECONDS)

    # ---- store

    async def store_killed(self) -> str:
        store = self.town.store
        async with self._busy["store"]:
            before = self.town.run_id()
            await asyncio.to_thread(store.kill)
            await asyncio.sleep(self.chance.uniform(0, 2))
            await asyncio.to_thread(store.start)
            return f"run id {before[:8]} → {(await asyncio.to_thread(self.town.run_id))[:8]}"

    async def store_stopped(self) -> str:
        async with self._busy["store"]:
            return await self._stopped([self.town.store.pid])

    async def store_cut(self) -> str:
        how = self.chance.choice(("fin", "reset"))
        return f"{await self.town.cutter.order('cut', self.town.store_port, how)} connections ({how})"

    async def store_answers_lost(self) -> str:
        return f"on {await self.town.cutter.order('lose', self.town.store_port)} connections"

    # ---- upstream

    async def upstream_killed(self) -> str:
        cutter, port = self.town.cutter, self.town.upstream_port
        async with self._busy["upstream"]:
            await cutter.order(
                "shut", port
            )  # at the same moment, so that the second proxy sees what the first one sees
            try:
                return await self._killed(self.town.upstream)
            finally:
                await cutter.order("open", port)

    async def upstream_stopped(self) -> str:
        async with self._busy["upstream"]:
            return await self._stopped(self.town.upstream.members())

    async def upstream_cut(self) -> str:
        how = self.chance.choice(("fin", "reset"))
        return f"{await self.town.cutter.order('cut', self.town.upstream_port, how)} connections ({how})"

    # ---- ways

    @asynccontextmanager
    async def _free_proxy(self) -> AsyncIterator[Proxy]:
        """One that nobody harms now. Raises NobodyFreeError."""
        free = [proxy for proxy in self.town.proxies if not self._busy[proxy.directory.name].locked()]
        free = [proxy for proxy in free if proxy.workers()]
        if not free:
            raise NobodyFreeError
        proxy = self.chance.choice(free)
        async with self._busy[proxy.directory.name]:
            yield proxy

    @asynccontextmanager
    async def _both_proxies(self) -> AsyncIterator[list[Proxy]]:
        """A sweeper needs its 45 s in one piece: no other supervisor may die meanwhile."""
        one, two = self.town.proxies
        async with self._busy[one.directory.name], self._busy[two.directory.name]:
            yield [one, two]

    async def _killed(self, program: Program, seconds: float | None = None) -> str:
        before = program.pid
        await program.kill()
        await asyncio.sleep(self.chance.uniform(0, 2) if seconds is None else seconds)
        await program.start()
        return f"pid {before} → {program.pid}"

    async def _stopped(self, pids: Sequence[int], seconds: float | None = None) -> str:
        """SIGSTOP, for up to three seconds if nobody says how long."""
        try:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(self.chance.uniform(0.2, 3) if seconds is None else seconds)
            states = "".join(state_of(pid) for pid in pids)
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        return f"pids {list(pids)} in state {states}"


def _replaced(proxy: Proxy, before: set[int], victim: int) -> set[int]:
    """The workers, as soon as there is one that was not there before."""
    now = set(proxy.workers())
    return now if victim not in now and now - before else set()


async def _until(found: Callable[[], set[int]]) -> set[int]:
    deadline = time.monotonic() + HEAL_SECONDS
    while not (pids := found()):
        assert time.monotonic() < deadline, "no new worker"
        await asyncio.sleep(0.05)
    return pids
