"""A model of what may happen to requests, and what must be true of budgets, sums and the ledger all the same.

Two workers and one store. Calls are lost, late or repeated, replies are lost, the store falls back to its last durable
moment, workers die and are adopted, living ones are swept by mistake, and periods end.
"""

import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, cast

import redis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from proxy.budgets import Account, Budget, PeriodKind, period_at
from proxy.ledger import Moved
from proxy.ledger.sums import SumKey, row_of
from proxy.store import keys
from tests.chaos.rules.parts import Call, Rules, Server, Snapshot, Writer, sweep
from tests.store.cases import entry, opened

LIMIT = 1000
FIRST_DAY = datetime(2026, 11, 1, 12, tzinfo=UTC)
State = Literal["asked", "held", "open", "sent", "done", "gone", "left"]


@dataclass
class Request:
    """The truth of one request. `left`: its worker died, so nobody but a journal knows."""

    id: str
    at: datetime
    hold: int
    accounts: tuple[Account, ...]
    writer: Writer
    state: State = "asked"
    reached: bool = False
    cost: int | None = None


class Protocol(RuleBasedStateMachine):
    """`client` and `in_force` are set by whoever runs it."""

    client: redis.Redis
    in_force = Rules()

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.server = Server(self.client, self.in_force)
        self.requests: dict[str, Request] = {}
        self.days = 0
        self.late: list[Call] = []
        self.orphans: list[Path] = []
        self.writers: list[Writer] = []
        self.durable: Snapshot = {}
        self.later: list[Snapshot] = []

    @initialize()
    def begin(self) -> None:
        self.writers = [self._new_writer(), self._new_writer()]
        self._keep_durable()

    def _new_writer(self) -> Writer:
        return Writer.new(self.server, Path(self.directory.name) / "journal")

    # --- what requests do ---

    @rule(which=st.integers(0, 1), hold=st.integers(1, 400), waits=st.booleans(), opens=st.booleans())
    def ask(self, which: int, hold: int, waits: bool, opens: bool) -> None:
        writer = self.writers[which]
        at = FIRST_DAY + timedelta(days=self.days)
        accounts = (_account("strict", at, refuses=True), _account("watched", at, refuses=False))
        request = Request(f"e{len(self.requests)}", at, hold, accounts if waits else accounts[1:], writer)
        self.requests[request.id] = request
        described = opened(request.id, hold, *request.accounts, at=_text(at))
        if waits:
            writer.ask(described, request.accounts, opens=opens and self.in_force.journals_open)
        else:
            writer.store.hold_later(described, request.accounts)
            request.state = "held"

    @rule(which=st.integers(0, 1), hold=st.integers(1, 400), waits=st.booleans(), opens=st.booleans())
    def goes_upstream(self, which: int, hold: int, waits: bool, opens: bool) -> None:
        """As most requests do: nothing goes wrong so far."""
        self.ask(which, hold, waits, opens)
        request = list(self.requests.values())[-1]
        self.deliver(which, "ok")
        if request.state == "held":
            self._journal(request)
        if request.state == "open":
            request.state, request.reached = "sent", True

    @rule(which=st.integers(0, 1), hold=st.integers(1, 100), opens=st.booleans())
    def stream(self, which: int, hold: int, opens: bool) -> None:
        """It follows another one, and is held out of an advance if there is one; else the store is asked."""
        writer = self.writers[which]
        at = FIRST_DAY + timedelta(days=self.days)
        accounts = (_account("strict", at, refuses=True), _account("watched", at, refuses=False))
        request = Request(f"e{len(self.requests)}", at, hold, accounts, writer)
        self.requests[request.id] = request
        described = opened(request.id, hold, *accounts, at=_text(at))
        writer.clock.now += 0.01
        if writer.store.hold_ahead(described, accounts):
            request.state = "held"
        else:
            writer.ask(described, accounts, opens=opens and self.in_force.journals_open)

    @rule(which=st.integers(0, 1), hold=st.integers(1, 30))
    def streams_flow(self, which: int, hold: int) -> None:
        """So many that an advance is asked for and granted, and taken out of."""
        for _ in range(4):
            self.stream(which, hold, opens=True)
            self.deliver(which, "ok")

    @rule(which=st.integers(0, 1))
    def streams_pause(self, which: int) -> None:
        self.writers[which].streams_pause()

    @rule(which=st.integers(0, 1))
    def turn_ends(self, which: int) -> None:
        """Of a worker's event loop."""
        self.writers[which].turn_ends()

    @precondition(lambda self: self._in("asked"))
    @rule(data=st.data(), passes=st.booleans())
    def time_out(self, data: st.DataObject, passes: bool) -> None:
        """The store did not answer in time: where its budget allows that, the request goes on."""
        request = self._draw(data, "asked")
        writer = request.writer
        writer.give_up(request.id)
        if passes:
            writer.store.hold_later(
                opened(request.id, request.hold, *request.accounts, at=_text(request.at)), request.accounts
            )
            request.state = "held"
        else:
            request.state = "gone"

    @precondition(lambda self: self._in("held"))
    @rule(data=st.data())
    def journal(self, data: st.DataObject) -> None:
        self._journal(self._draw(data, "held"))

    def _journal(self, request: Request) -> None:
        if self.in_force.journals_open:
            request.writer.store.begin([request.id])  # rule 1
        request.state = "open"

    @precondition(lambda self: self._in("open"))
    @rule(data=st.data())
    def send(self, data: st.DataObject) -> None:
        request = self._draw(data, "open")
        request.state, request.reached = "sent", True

    @precondition(lambda self: self._in("held", "open"))
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """It was never sent."""
        request = self._draw(data, "held", "open")
        request.writer.store.release(request.id)
        request.state = "gone"

    @precondition(lambda self: self._in("sent"))
    @rule(data=st.data(), cost=st.integers(0, 500))
    def settle(self, data: st.DataObject, cost: int) -> None:
        self._settle(self._draw(data, "sent"), cost)

    def _settle(self, request: Request, cost: int) -> None:
        moved = tuple(Moved(account.budget.name, account.key, cost) for account in request.accounts)
        request.writer.store.settle(entry(request.id, cost, at=_text(request.at), moved=moved), request.accounts)
        request.state, request.cost = "done", cost

    @rule()
    def next_day(self) -> None:
        """The period ends; what is under way is settled in the one it began in."""
        self.days += 1

    # --- what happens to calls ---

    @rule(which=st.integers(0, 1), fate=st.sampled_from(["ok", "ok", "ok", "twice", "lost", "reply lost", "late"]))
    def deliver(self, which: int, fate: str) -> None:
        writer = self.writers[which]
        call = writer.call()
        if call is None:
            return
        if fate in ("lost", "late"):
            writer.lose()
            if fate == "late":
                self.late.append(call)
            return
        answers = call.carry_out(self.server)
        if answers is not None and fate == "twice":
            answers = call.carry_out(self.server)
        if answers is None:
            writer.lose()
            return
        if fate == "reply lost":
            writer.lose()
            return
        writer.answered(answers)
        self._read_answers(writer)

    @precondition(lambda self: self.late)
    @rule(data=st.data())
    def late_call_arrives(self, data: st.DataObject) -> None:
        self.late.pop(data.draw(st.integers(0, len(self.late) - 1))).carry_out(self.server)

    @rule(which=st.integers(0, 1))
    def reconnect(self, which: int) -> None:
        self.writers[which].connect()

    # --- what happens to the store ---

    @rule()
    def becomes_durable(self) -> None:
        """All that was applied is on disk, and the writers hear of it: those that talk to this life of the server."""
        self._keep_durable()
        for writer in self.writers:
            if writer.life == self.server.life:
                writer.pending.confirm(writer.pending.counted)

    @rule()
    def goes_on(self) -> None:
        """A moment that may be on disk or not."""
        self.later.append(self.server.snapshot())

    @rule(data=st.data(), is_seen=st.booleans())
    def falls_back(self, data: st.DataObject, is_seen: bool) -> None:
        """A crash, or a failover; one that is not seen happens behind somebody who keeps the connections."""
        self._read_answers_of_all()
        moments = [self.durable, *self.later]
        self.server.restore(moments[data.draw(st.integers(0, len(moments) - 1))])
        if is_seen:
            for writer in self.writers:
                writer.lose()

    @precondition(lambda self: self._in("sent"))
    @rule(data=st.data(), cost=st.integers(0, 500), is_lost=st.booleans())
    def ends(self, data: st.DataObject, cost: int, is_lost: bool) -> None:
        """As most requests do; or with a failover that nobody sees, right after the answer."""
        request = self._draw(data, "sent")
        before = self.server.snapshot()
        self._settle(request, cost)
        self.deliver(self.writers.index(request.writer), "ok")
        if is_lost:
            self.server.restore(before)

    @rule(which=st.integers(0, 1))
    def is_swept_before_it_hears(self, which: int) -> None:
        """The answer is lost, and the worker stands still until it was swept."""
        self.deliver(which, "reply lost")
        self.is_swept(which)

    def _keep_durable(self) -> None:
        self.durable = self.server.snapshot()
        self.later = []

    # --- what happens to workers ---

    @rule(which=st.integers(0, 1))
    def dies(self, which: int) -> None:
        """kill -9; a new one takes the slot, and the journal waits to be adopted.

        What has ended in that very turn has no end in the journal.
        """
        writer = self.writers[which]
        gathered = writer.gathered
        self.orphans.append(writer.let_go())
        for request in self.requests.values():
            if request.id in gathered and request.writer is writer:
                request.state = "left"
            elif request.writer is writer and request.state not in {"done", "gone"}:
                request.state = "left" if request.state in ("open", "sent") else "gone"
        self.writers[which] = self._new_writer()

    @precondition(lambda self: self.orphans)
    @rule(data=st.data(), finishes=st.booleans())
    def is_adopted(self, data: st.DataObject, finishes: bool) -> None:
        """By a supervisor, which may die in the middle of it too."""
        path = self.orphans.pop(data.draw(st.integers(0, len(self.orphans) - 1)))
        heir = Writer.adopting(self.server, path)
        if finishes:
            heir.deliver_all()
        elif (call := heir.call()) is not None:
            call.carry_out(self.server)
        self.orphans.append(heir.let_go())

    @rule(which=st.integers(0, 1))
    def is_swept(self, which: int) -> None:
        """By mistake: it lives, and only its heartbeat was not seen for long."""
        sweep(self.server, self.writers[which].journal.writer)

    @rule()
    def the_dead_are_swept(self) -> None:
        for path in self.orphans:
            sweep(self.server, path.name)

    # --- what must be true ---

    @invariant()
    def money_adds_up(self) -> None:
        """Rule 8, at every moment."""
        server = self.server
        held: Counter[str] = Counter()
        holds = server.holds()
        assert not holds.keys() & server.presumed(), "what was presumed is held again"
        for record in holds.values():
            amounts, _, _ = record.decode().partition("\n\n")
            for amount in filter(None, amounts.split("\n")):
                nanos, _, key = amount.partition(" ")
                held[key] += int(nanos)
        spent: Counter[str] = Counter()
        sums: defaultdict[str, Counter[str]] = defaultdict(Counter)
        requests: Counter[str] = Counter()
        entries: Counter[str] = Counter()
        for line in server.lines():
            requests[line["id"]] += line.get("requests", 1)
            entries[line["id"]] += line.get("line", "entry") == "entry"
            for _, key, nanos in line.get("moved", ()):
                spent[key] += nanos
            of_day, row = sums[line["at"][:10]], _row(line)
            of_day[row + "requests"] += line.get("requests", 1)
            of_day[row + "nanos"] += line["cost_nanos"] or 0
            for kind, quantity in line["usage"].items():
                of_day[row + kind] += quantity
        for key in {*held, *spent} | {account.key for each in self.requests.values() for account in each.accounts}:
            assert server.number(keys.held(key)) == held[key], f"held of {key}"
            assert server.number(keys.committed(key)) - held[key] == spent[key], f"spent of {key}"
        for day, rows in sums.items():
            stored = cast("dict[bytes, bytes]", server.client.hgetall(keys.SUMS + day))
            assert {n.decode(): int(v) for n, v in stored.items() if int(v)} == {n: v for n, v in rows.items() if v}
        for entry_id, count in requests.items():
            assert count in (0, 1), f"{entry_id} counts {count} times"
            assert entries[entry_id] == 1, f"{entry_id} has {entries[entry_id]} entries"

    def teardown(self) -> None:
        try:
            if self.writers:
                self.comes_to_rest()
        finally:
            for writer in self.writers:
                writer.let_go()
            self.directory.cleanup()

    def comes_to_rest(self) -> None:
        """Everything heals and ends; then each request has its one entry, and nothing is held."""
        for writer in self.writers:
            writer.connect()
            writer.deliver_all()
        self._read_answers_of_all()
        for request in self.requests.values():
            if request.state == "asked":
                request.writer.give_up(request.id)
                request.state = "gone"
            elif request.state in ("held", "open"):
                request.writer.store.release(request.id)
                request.state = "gone"
            elif request.state == "sent":
                self._settle(request, 7)
        for writer in self.writers:
            writer.streams_pause()
            writer.deliver_all()
        for path in self.orphans:
            heir = Writer.adopting(self.server, path)
            heir.deliver_all()
            heir.let_go()
        for call in self.late:
            call.carry_out(self.server)
        self.money_adds_up()
        assert not self.server.holds(), "something is held at rest"
        self._each_has_its_entry()

    def _each_has_its_entry(self) -> None:
        lines: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for line in self.server.lines():
            lines[line["id"]].append(line)
        for request in self.requests.values():
            count = sum(line.get("requests", 1) for line in lines[request.id])
            cost = sum(line["cost_nanos"] for line in lines[request.id])
            days = {moved[1] for line in lines[request.id] for moved in line.get("moved", ())}
            assert days <= {account.key for account in request.accounts}, f"{request.id} is charged to another period"
            if request.state == "done":
                assert (count, cost) == (1, request.cost), f"{request.id}: {lines[request.id]}"
            elif request.reached:
                assert (count, cost) == (1, request.hold), f"{request.id} reached the upstream: {lines[request.id]}"
            elif request.state == "gone":
                assert (count, cost) == (0, 0), f"{request.id} was never sent: {lines[request.id]}"
            else:  # opened, and its worker died: nobody can know
                assert count in (0, 1)

    # --- what the test reads off ---

    def _in(self, *states: State) -> bool:
        return any(request.state in states for request in self.requests.values())

    def _draw(self, data: st.DataObject, *states: State) -> Request:
        return data.draw(st.sampled_from([each for each in self.requests.values() if each.state in states]))

    def _read_answers_of_all(self) -> None:
        for writer in self.writers:
            self._read_answers(writer)

    def _read_answers(self, writer: Writer) -> None:
        for entry_id, answer in list(writer.answers.items()):
            if answer.is_held is None:
                continue
            del writer.answers[entry_id]
            request = self.requests[entry_id]
            if answer.is_held:
                request.state = "open" if answer.opens else "held"
            else:
                request.state = "gone"


def _account(name: str, at: datetime, *, refuses: bool) -> Account:
    budget = Budget(name=name, limit=LIMIT, period=PeriodKind.DAY, on_exceed="refuse" if refuses else "alert")
    return Account(budget, period_at(PeriodKind.DAY, "UTC", at), None)


def _text(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _row(line: dict[str, Any]) -> str:
    return row_of(
        SumKey(
            owner=line["owner"],
            model=line.get("served_model") or line.get("asked_model") or "",
            card=line.get("card") or "",
            tier=line["tier"],
            long_context="1" if line.get("long_context") else "",
            endpoint=line["endpoint"],
            status=line["status"],
        )
    )
