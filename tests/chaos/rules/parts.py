"""The real protocol without sockets: real scripts on a real server, real `Store`, `Pending`, `Journal` and adoption.

Only the wire is the test's, so that it can lose, delay and repeat calls, and lose replies.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import msgspec
import redis

from proxy.errors import JournalFailed, StoreError
from proxy.journal import Adopted, Journal, adopt
from proxy.ledger.opened import Opened
from proxy.store import keys
from proxy.store.adoption import Inheritance
from proxy.store.advances import Advances
from proxy.store.asking import Refusal
from proxy.store.connection import OrderedConnection
from proxy.store.operations import Hold, Operation, packed
from proxy.store.pending import GapFoundError, Pending, Stored
from proxy.store.script import DIGEST, SOURCE, Script
from proxy.store.store import Store
from proxy.store.sweeping import Sweeping
from proxy.store.unkept import Unkept

T = TypeVar("T")
Snapshot = dict[bytes, tuple[bytes, int]]


@dataclass
class Rules:
    """Which rules hold. A test switches one off and must see it."""

    script: str = SOURCE.decode()
    journals_open: bool = True
    presumes_orphans: bool = True
    mends: bool = True
    rewinds: bool = True
    confirms_only_durable: bool = True


class Server:
    """The store of a model: a real server, with a past that it can fall back to."""

    def __init__(self, client: redis.Redis, rules: Rules) -> None:
        self.client = client  # bytes in and out
        self.rules = rules
        self.life = 0
        client.flushall()

    def snapshot(self) -> Snapshot:
        names = cast("list[bytes]", self.client.keys("*"))
        return {name: (cast("bytes", self.client.dump(name)), self.client.pttl(name)) for name in names}

    def restore(self, snapshot: Snapshot) -> None:
        self.life += 1
        self.client.flushall()
        for name, (value, ttl) in snapshot.items():
            self.client.restore(name, max(ttl, 0), value)

    def lines(self) -> list[dict[str, Any]]:
        found = cast("list[tuple[bytes, dict[bytes, bytes]]]", self.client.xrange(keys.LEDGER))
        return [msgspec.json.decode(fields[b"e"]) for _, fields in found]

    def holds(self) -> dict[str, bytes]:
        """Entry id → record, of all writers. Nothing is parked here."""
        found: dict[str, bytes] = {}
        for name in cast("list[bytes]", self.client.keys(keys.holds("*"))):
            for entry_id, record in cast("dict[bytes, bytes]", self.client.hgetall(name)).items():
                assert entry_id.decode() not in found, f"{entry_id!r} is held twice"
                found[entry_id.decode()] = record
        return found

    def presumed(self) -> set[str]:
        """Entry ids of what sweepers presumed and nobody has corrected yet."""
        names = cast("list[bytes]", self.client.keys(keys.presumed("*")))
        return {entry_id.decode() for name in names for entry_id in cast("list[bytes]", self.client.hkeys(name))}

    def number(self, name: str) -> int:
        return int(cast("bytes | None", self.client.get(name)) or 0)


class Answer:
    """Of a request that waits. `opens`: it is journalled before it hears that it is held."""

    def __init__(self, *, opens: bool) -> None:
        self.opens = opens
        self.is_held: bool | None = None

    def held(self) -> None:
        assert self.is_held is None, "it was told twice"
        self.is_held = True

    def refused(self, _refusal: Refusal) -> None:
        assert self.is_held is None, "it was told twice"
        self.is_held = False

    def store_failed(self, _error: StoreError) -> None:
        assert self.is_held is None, "it was told twice"
        self.is_held = False

    def journal_failed(self, error: JournalFailed) -> None:
        raise AssertionError from error


class _Turn:
    """Of an event loop: it ends when the test says so (`Writer.turn_ends`)."""

    def call_soon(self, _call: Callable[[], None]) -> None:
        """Later."""


class _Clock:
    """Of an event loop; the test moves it, and looks when it likes."""

    def __init__(self) -> None:
        self.now = 1.0

    def time(self) -> float:
        return self.now

    def call_later(self, _seconds: float, _call: Callable[[], None]) -> SimpleNamespace:
        return SimpleNamespace(cancel=lambda: None)


class _Wire:
    """A connection whose commands are answered at once."""

    run_id = "one"

    def __init__(self, server: Server) -> None:
        self._server = server

    async def call(self, *arguments: bytes | str | int) -> Any:
        if arguments[:2] == ("EVALSHA", DIGEST):
            arguments = ("EVAL", self._server.rules.script, *arguments[2:])
        return self._server.client.execute_command(*arguments)  # type: ignore[no-untyped-call]


def driven(coroutine: Coroutine[Any, Any, T]) -> T:
    """A coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return cast("T", end.value)
    raise AssertionError("it waits")


@dataclass(frozen=True)
class Call:
    """A script call as it travels."""

    arguments: tuple[Any, ...]
    operations: bytes

    def carry_out(self, server: Server) -> list[Any] | None:
        """The answers; None where its token is superseded."""
        try:
            answers = server.client.eval(server.rules.script, *self.arguments, self.operations)
        except redis.ResponseError as error:
            if "SUPERSEDED" in str(error):
                return None
            raise
        return cast("list[Any]", answers)


class _Mending:
    """What is pending, as a new connection mends it, with rule 7 or without."""

    def __init__(self, writer: "Writer") -> None:
        self._writer = writer

    def rewind(self, stored: int) -> int:
        pending = self._writer.pending
        if self._writer.server.rules.rewinds:
            return pending.rewind(stored)
        pending.counted = max(stored, pending.counted)
        return pending.counted

    def mend(self, stored: Stored) -> None:
        if self._writer.server.rules.mends:
            self._writer.pending.mend(stored)


@dataclass
class Writer:
    """A worker, or whoever has adopted its journal: a real Store above a wire that the test holds."""

    server: Server
    journal: Journal
    pending: Pending
    inheritance: Inheritance | None = None
    token: str | None = None
    life: int = 0
    """Of the server, as it was when this writer connected."""
    answers: dict[str, Answer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._connection = SimpleNamespace(
            _writer=self.journal.writer,
            pending=_Mending(self),
            on_stored=self.inheritance.read if self.inheritance else lambda _stored: None,
            run_id=None,
            life=0,
            _birth=None,
        )
        self.journal.gather(cast("asyncio.AbstractEventLoop", _Turn()))
        self.store = Store.__new__(Store)
        self.store._journal = self.journal
        self.store._pending = self.pending
        connection = SimpleNamespace(tell=self._tell, is_connected=True, ask=self._ask, give_up=self.pending.give_up)
        self.store._connection = cast("OrderedConnection", connection)
        self.clock = _Clock()
        loop = self.store._loop = cast("asyncio.AbstractEventLoop", self.clock)
        self.store._unkept = Unkept(self.journal, loop)  # whose clock never rings: machines do not crash here
        self.store._advances = Advances(connection, self.pending, loop, ahead=3, far=2)

    @classmethod
    def new(cls, server: Server, directory: Path) -> "Writer":
        journal = Journal.create(directory, f"w-{secrets.token_hex(4)}")
        return cls(server, journal, Pending(journal))

    @classmethod
    def adopting(cls, server: Server, path: Path) -> "Writer":
        adopted = adopt(path)
        assert adopted is not None
        return cls.of_adopted(server, adopted)

    @classmethod
    def of_adopted(cls, server: Server, adopted: Adopted) -> "Writer":
        if not server.rules.presumes_orphans:
            for entry_id in adopted.open:
                adopted.journal.drop(entry_id)
            adopted.open.clear()
        pending = Pending(adopted.journal)
        inheritance = Inheritance(adopted, pending, "worker_died", lambda _entry: None)
        return cls(server, adopted.journal, pending, inheritance)

    def _tell(self, operation: Operation) -> None:
        if self.token is None and isinstance(operation, Hold):
            return  # as OrderedConnection.tell: it is made when the store is back
        self.pending.append(operation)

    def _ask(self, hold: Hold) -> None:
        """As OrderedConnection.ask, but for the time-out."""
        self.pending.live[hold.entry_id] = hold
        self.pending.append(hold)

    def ask(self, opened: Opened, accounts: Any, *, opens: bool) -> None:
        """Store.ask_hold; or Store.hold up to where it waits."""
        answer = self.answers[opened.id] = Answer(opens=opens)
        if opens:
            assert self.store.ask_hold(opened, accounts, waiter=answer) is None
        else:
            hold = Hold(opened, accounts)
            hold.waiter = answer
            self._ask(hold)

    def streams_pause(self) -> None:
        """So long that what was set aside ahead goes back."""
        self.clock.now += 1
        self.store._advances._look()

    def give_up(self, entry_id: str) -> None:
        """After its time-out, or because its client has left."""
        self.answers.pop(entry_id)
        self.store.give_up(entry_id)

    def turn_ends(self) -> None:
        self.journal.retry()

    @property
    def gathered(self) -> set[str]:
        """The requests whose end is in memory only."""
        return {entry_id for _, entry_id, _ in self.journal._backlog}

    def connect(self) -> None:
        self.lose()
        self.life = self.server.life
        connection = cast("OrderedConnection", self._connection)
        self.token = driven(OrderedConnection._take_over(connection, cast("Any", _Wire(self.server))))

    def lose(self) -> None:
        """The connection is gone."""
        if self.token is not None:
            self.token = None
            self.pending.put_back()

    def call(self) -> Call | None:
        """The next batch, packed; it is under way."""
        if self.token is None:
            self.connect()
        batch = self.pending.take()
        return self.packed(batch) if batch else None

    def packed(self, batch: list[Operation]) -> Call:
        assert self.token is not None
        return Call(Script(cast("Any", None), self.journal.writer, self.token)._arguments, packed(batch))

    def answered(self, answers: list[Any]) -> None:
        try:
            self.pending.answered(answers)
        except GapFoundError:
            self.token = None

    def deliver_all(self) -> None:
        for _ in range(50):
            call = self.call()
            if call is None:
                return
            answers = call.carry_out(self.server)
            if answers is None:
                self.lose()
            else:
                self.answered(answers)
        raise AssertionError("the store does not come to rest")

    def let_go(self) -> Path:
        """kill -9: what is in memory is gone, what was written stays."""
        path = self.journal._directory
        self.journal._backlog.clear()
        self.journal.close(remove=False)
        return path


class _Sweeping(Sweeping):
    """A sweeper whose connections are the test's."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._on_presumed = lambda _entry: None

    @asynccontextmanager
    async def _wire(self) -> AsyncIterator[Any]:
        yield _Wire(self._server)


def sweep(server: Server, name: str) -> int:
    """Take a writer for dead."""
    sweeping = _Sweeping(server)
    beat = driven(sweeping.beats()).get(name)
    return 0 if beat is None else driven(sweeping.sweep(name, beat, "host_lost"))
