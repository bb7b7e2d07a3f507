"""The script against a plain model of it, and what a repeated or missing call makes of the numbers."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from proxy.budgets import Account
from proxy.store import keys
from proxy.store.finished import Numbered
from proxy.store.operations import Hold, Operation, Presume, Release, Swept
from proxy.store.script import SOURCE
from tests.store.calling import Caller, charge, park
from tests.store.cases import TODAY, account, opened
from tests.store.servers import Server

BIG = 2**53
ACCOUNTS = (
    account("total", limit=100, period="total"),
    account("month", limit=60),
    account("alert", limit=10, refuses=False),
    account("each", limit=40, owner="acme"),
    account("big", limit=BIG + 1, period="total"),
)
STARTS = {"big": BIG - 50}  # so that sums cross 2^53, where doubles have holes


@pytest.fixture
def caller(raw: redis.Redis) -> Caller:
    return Caller(raw)


def test_numbers_apply_in_turn_and_once(caller: Caller, raw: redis.Redis) -> None:
    one, two, three = (charge(number, f"e{number}", 10, [ACCOUNTS[0]]) for number in (1, 2, 3))
    assert caller.call(two) == [["0"]]
    assert caller.call(one, one, three, two, three) == [0, 1, ["1"], 0, 0]
    assert caller.call(one, two, three) == [1, 1, 1]
    assert raw.get(keys.committed(ACCOUNTS[0].key)) == "30"
    assert raw.xlen(keys.LEDGER) == 3


def test_a_batch_that_comes_again_changes_nothing(caller: Caller, raw: redis.Redis) -> None:
    batch: list[Operation] = [
        Hold(opened("a", 10), [ACCOUNTS[0], ACCOUNTS[1]]),
        Hold(opened("b", 20), [ACCOUNTS[0]]),
        charge(1, "a", 5, [ACCOUNTS[0], ACCOUNTS[1]]),
        Release("b"),
        Hold(opened("c", 30), [ACCOUNTS[0]]),
        charge(2, "d", 7, [ACCOUNTS[0]]),
    ]

    def amounts_now() -> list[object]:
        names = [name(of.key) for of in ACCOUNTS for name in (keys.committed, keys.held)]
        return [raw.mget(names), raw.hgetall(keys.sums(TODAY)), raw.xlen(keys.LEDGER), raw.hgetall(keys.holds("w"))]

    assert caller.call(*batch) == [0, 0, 0, 0, 0, 0]
    before = amounts_now()
    assert caller.call(*batch) == [0, 0, 1, 0, 0, 1]
    assert caller.call(*batch[2:]) == [1, 0, 0, 1]
    assert amounts_now() == before


def test_what_is_parked_keeps_its_hold_until_one_of_many_charges_it(raw: redis.Redis) -> None:
    one, other = Caller(raw, "one"), Caller(raw, "other")
    budget = ACCOUNTS[0]

    def standing() -> tuple[int, int]:
        return tuple(int(str(raw.get(name(budget.key)) or 0)) for name in (keys.committed, keys.held))  # type: ignore[return-value]

    batch: list[Operation] = [Hold(opened("e1", 40), [budget]), park(1, "e1", "resp_1")]
    assert one.call(*batch) == [0, 0]
    assert one.call(*batch) == [0, 1]  # the reply was lost
    assert standing() == (40, 40)
    assert raw.hgetall(keys.holds("one")) == {}
    # Too early by its number, then both in turn: only the first one counts.
    assert other.call(charge(2, "e1", 5, [budget], parked="resp_1")) == [["0"]]
    assert other.call(charge(1, "e1", 5, [budget], parked="resp_1")) == [0]
    assert other.call(charge(1, "e1", 5, [budget], parked="resp_1")) == [1]
    assert one.call(charge(2, "e1", 7, [budget], parked="resp_1")) == [2]
    assert standing() == (5, 0)
    assert raw.xlen(keys.LEDGER) == 1
    assert not raw.exists(keys.background("resp_1"))


def test_an_account_that_has_expired_stays_away_when_what_was_parked_is_charged(raw: redis.Redis) -> None:
    caller = Caller(raw)
    gone, there = ACCOUNTS[0], ACCOUNTS[1]
    assert caller.call(Hold(opened("e1", 40), [gone, there]), park(1, "e1", "resp_1")) == [0, 0]
    raw.delete(keys.committed(gone.key), keys.held(gone.key))
    assert caller.call(charge(2, "e1", 5, [there], parked="resp_1")) == [0]
    assert raw.mget(keys.committed(gone.key), keys.committed(there.key), keys.held(there.key)) == [None, "5", "0"]


def test_numbers_of_any_length_are_compared_as_numbers(caller: Caller) -> None:
    for number in range(1, 12):
        assert caller.call(charge(number, f"e{number}", 1, [])) == [0]
    assert caller.call(charge(9, "e9", 1, [])) == [1]
    assert caller.call(charge(100, "e100", 1, [])) == [["11"]]


def test_an_operation_that_does_not_exist_is_answered(caller: Caller, raw: redis.Redis) -> None:
    import msgspec

    answers = raw.eval(SOURCE.decode(), *caller._arguments, msgspec.msgpack.encode([[99, "x"], [2, "none"]]))
    assert isinstance(answers, list)
    assert "attempt to call" in answers[0]
    assert answers[1] == 0


@pytest.fixture(scope="module", params=["valkey", "redis"])
def machine_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="tm-") as path:
        server = Server(request.param, Path(path))
        server.start()
        yield server
        server.kill()


steps: st.SearchStrategy[tuple[str, int, set[int], int]] = st.one_of(
    st.tuples(st.just("hold"), st.integers(0, 9), st.sets(st.integers(0, 4), min_size=1), st.integers(0, 60)),
    st.tuples(st.just("settle"), st.integers(0, 9), st.sets(st.integers(0, 4)), st.integers(0, 60)),
    st.tuples(
        st.sampled_from(["hold", "settle"]),
        st.integers(0, 9),
        st.sets(st.integers(0, 4), min_size=1),
        st.sampled_from([10**13 - 1, 10**13, 10**14, 10**15, 10**16]),
    ),
    st.tuples(st.sampled_from(["release", "presume"]), st.integers(0, 9), st.just(set()), st.just(0)),
)


def operations_of(drawn: list[tuple[str, int, set[int], int]]) -> list[Operation | Swept]:
    made: list[Operation | Swept] = []
    number = 0
    for what, which, positions, amount in drawn:
        accounts = [ACCOUNTS[position] for position in sorted(positions)]
        entry_id = f"e{which}"
        if what == "hold":
            made.append(Hold(opened(entry_id, amount, *accounts), accounts))
        elif what == "release":
            made.append(Release(entry_id))
        elif what == "presume":
            made.append(Presume(opened(entry_id, amount, ACCOUNTS[2]), "host_lost", "w"))
        else:
            number += 1
            made.append(charge(number, entry_id, amount, accounts))
    return made


def everything(client: redis.Redis) -> dict[str, object]:
    """All that is in the store, but for the times of lines."""
    found: dict[str, object] = {}
    for key in client.scan_iter():
        match client.type(key):
            case "string":
                found[key] = (client.get(key), client.ttl(key) > 0)
            case "hash" if key == keys.presumed("w"):
                found[key] = set(client.hkeys(key))  # of what is no text
            case "hash":
                fields: dict[str, str] = client.hgetall(key)  # type: ignore[assignment]
                if counted := {name: value for name, value in fields.items() if value != "0"}:
                    found[key] = counted  # one that came to nothing again within a batch is never written
            case "set":
                found[key] = client.smembers(key)
            case "stream":
                lines: Any = client.xrange(key)
                found[key] = [fields for _, fields in lines]
    return found


@pytest.mark.parametrize("start", ["0", str(10**15 - 30), str(2**53 - 50), "9199999999999999990"])
def test_many_operations_in_one_call_are_what_they_are_one_by_one(machine_server: Server, start: str) -> None:
    """What a batch keeps in Lua numbers is exact, and is all written."""
    with machine_server.client() as client:

        def all_in(calls: list[list[Operation | Swept]]) -> tuple[list[Any], dict[str, object]]:
            client.flushall()
            caller = Caller(client)
            for each in (ACCOUNTS[0], ACCOUNTS[4]):
                client.mset({keys.committed(each.key): start, keys.held(each.key): "0"})
            return [answer for call in calls for answer in caller.call(*call)], everything(client)

        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(steps, min_size=1, max_size=40))
        def same(drawn: list[tuple[str, int, set[int], int]]) -> None:
            operations = operations_of(drawn)
            assert all_in([operations]) == all_in([[operation] for operation in operations])

        same()


@dataclass
class Model:
    """What the store should have."""

    spent: dict[str, int] = field(default_factory=dict)
    holds: dict[str, list[tuple[Account, int]]] = field(default_factory=dict)
    parked: dict[tuple[str, str], list[tuple[Account, int]]] = field(default_factory=dict)
    number: int = 0
    lines: int = 0

    def held(self, of: Account) -> int:
        all_holds = [*self.holds.values(), *self.parked.values()]
        return sum(amount for holds in all_holds for each, amount in holds if each is of)

    def committed(self, of: Account) -> int:
        return self.spent.get(of.key, 0) + self.held(of)


amounts = st.one_of(st.integers(0, 60), st.sampled_from([0, 1, BIG, BIG + 1, 10**16]))
some_accounts = st.lists(st.sampled_from(ACCOUNTS), min_size=1, unique_by=lambda each: each.key)


class StoreMachine(RuleBasedStateMachine):
    """Holds, releases and charges in any order, repeated, too early, and sent again with what came before."""

    client: redis.Redis
    ids = Bundle("ids")

    @initialize()
    def start(self) -> None:
        self.client.flushall()
        self.caller = Caller(self.client)
        self.model = Model()
        self.last: list[Operation] = []
        for name, spent in STARTS.items():
            [of] = [each for each in ACCOUNTS if each.budget.name == name]
            self.client.set(keys.committed(of.key), str(spent))
            self.client.set(keys.held(of.key), "0")
            self.model.spent[of.key] = spent

    def call(self, *operations: Operation) -> list[Any]:
        self.last = list(operations)
        return self.caller.call(*operations)

    @rule(target=ids, number=st.integers(0, 12))
    def new_id(self, number: int) -> str:
        return f"e{number}"

    @rule(entry_id=ids, accounts=some_accounts, amount=amounts)
    def hold(self, entry_id: str, accounts: list[Account], amount: int) -> None:
        holds = [(each, amount) for each in accounts]
        [answer] = self.call(Hold(opened(entry_id, amount), accounts))
        model = self.model
        refusing = [
            position
            for position, each in enumerate(accounts)
            if each.budget.refuses and model.committed(each) + amount > each.budget.limit
        ]
        if entry_id in model.holds:
            assert answer == 0
        elif refusing:
            assert [int(number) for number in answer] == [
                number
                for position in refusing
                for number in (position, model.committed(accounts[position]), model.held(accounts[position]))
            ]
        else:
            assert answer == 0
            model.holds[entry_id] = holds

    @rule(entry_id=ids)
    def release(self, entry_id: str) -> None:
        assert self.call(Release(entry_id)) == [0]
        self.model.holds.pop(entry_id, None)

    @rule(entry_id=ids, accounts=some_accounts, cost=st.one_of(st.none(), amounts))
    def settle(self, entry_id: str, accounts: list[Account], cost: int | None) -> None:
        self.model.number += 1
        assert self.call(charge(self.model.number, entry_id, cost, accounts)) == [0]
        self.model.holds.pop(entry_id, None)
        self.model.lines += 1
        for each in accounts:
            self.model.spent[each.key] = self.model.spent.get(each.key, 0) + (cost or 0)

    @rule(number=st.integers(), response=st.sampled_from("rs"))
    def park(self, number: int, response: str) -> None:
        """An entry's id is minted once, so it is parked once."""
        entry_id = f"p{self.model.number}"
        alert = ACCOUNTS[2]
        self.caller.call(Hold(opened(entry_id, number % 7), [alert]))
        self.model.number += 1
        assert self.call(park(self.model.number, entry_id, response)) == [0]
        self.model.parked[response, entry_id] = [(alert, number % 7)]

    @rule(data=st.data(), accounts=some_accounts, cost=st.one_of(st.none(), amounts), claims=st.integers(1, 2))
    def claim(self, data: st.DataObject, accounts: list[Account], cost: int | None, claims: int) -> None:
        """Two who have both seen the end: one charges it, the other changes nothing."""
        if not self.model.parked:
            return
        response, entry_id = data.draw(st.sampled_from(sorted(self.model.parked)))
        for claimed in range(claims):
            self.model.number += 1
            answer = 2 if claimed else 0
            assert self.call(charge(self.model.number, entry_id, cost, accounts, parked=response)) == [answer]
        del self.model.parked[response, entry_id]
        self.model.lines += 1
        for each in accounts:
            self.model.spent[each.key] = self.model.spent.get(each.key, 0) + (cost or 0)

    @rule(entry_id=ids, ahead=st.integers(2, 4))
    def settle_too_early(self, entry_id: str, ahead: int) -> None:
        number = self.model.number
        assert self.call(charge(number + ahead, entry_id, 10, [ACCOUNTS[0]])) == [[str(number)]]

    @rule()
    def lose_the_reply(self) -> None:
        """The same calls again. A hold that comes again after its charge is dropped with it."""
        if self.last and isinstance(self.last[0], Release | Numbered):
            self.caller.call(*self.last)
            if isinstance(self.last[0], Numbered) and (self.last[0].number or 0) <= self.model.number:
                self.model.holds.pop(self.last[0].entry_id, None)

    @rule(entry_id=ids, amount=st.integers(0, 5))
    def hold_and_settle_and_lose_the_reply(self, entry_id: str, amount: int) -> None:
        alert = ACCOUNTS[2]
        self.model.number += 1
        batch: list[Operation] = [
            Hold(opened(entry_id, amount), [alert]),
            charge(self.model.number, entry_id, amount, [alert]),
        ]
        assert self.call(*batch) == [0, 0]
        assert self.caller.call(*batch) == [0, 1]
        self.model.holds.pop(entry_id, None)
        self.model.lines += 1
        self.model.spent[alert.key] = self.model.spent.get(alert.key, 0) + amount

    @invariant()
    def committed_is_spent_and_held(self) -> None:
        if not hasattr(self, "model"):
            return
        for each in ACCOUNTS:
            committed = int(str(self.client.get(keys.committed(each.key)) or 0))
            held = int(str(self.client.get(keys.held(each.key)) or 0))
            assert (committed, held) == (self.model.committed(each), self.model.held(each)), each.key
        assert set(self.client.hkeys(keys.holds("w"))) == set(self.model.holds)
        assert self.client.xlen(keys.LEDGER) == self.model.lines
        sums: dict[str, str] = self.client.hgetall(keys.sums(TODAY))  # type: ignore[assignment]
        total = sum(int(value) for field, value in sums.items() if field.endswith("]requests"))
        assert total == self.model.lines


def test_any_order_of_calls_keeps_the_sums(machine_server: Server) -> None:
    with machine_server.client() as client:
        machine = type("Machine", (StoreMachine,), {"client": client})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
