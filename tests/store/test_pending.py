"""The order of operations, without a store."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from proxy.errors import StoreAway
from proxy.store.asking import Answer
from proxy.store.finished import Charge, Numbered
from proxy.store.operations import Hold, Operation, Release
from proxy.store.pending import BATCH, GapFoundError, Pending, Stored
from tests.store.cases import account, entry, opened


def charge(entry_id: str = "e") -> Charge:
    return Charge(entry(entry_id), [account()])


def stored(number: int = 0, holds: Sequence[str] = (), presumed: Sequence[str] = ()) -> Stored:
    return Stored(number, frozenset(holds), frozenset(presumed))


def numbers(operations: Sequence[Any]) -> list[int | None]:
    return [operation.number for operation in operations]


def pending_with(count: int) -> Pending:
    pending = Pending()
    for number in range(count):
        pending.append(charge(f"e{number}"))
    return pending


def test_first_in_first_out_at_most_64_together() -> None:
    pending = pending_with(BATCH + 5)
    assert numbers(pending.take()) == list(range(1, BATCH + 1))
    pending.answered([0] * BATCH)
    assert numbers(pending.take()) == list(range(BATCH + 1, BATCH + 6))
    assert (pending.charges, len(pending)) == (5, 5)
    pending.answered([0] * 5)
    assert (pending.charges, len(pending), pending.take()) == (0, 0, [])


def test_numbers_go_on_from_what_the_store_has() -> None:
    pending = Pending()
    assert pending.rewind(41) == 41
    pending.append(charge())
    assert numbers(pending.take()) == [42]


def test_a_lost_reply_sends_the_same_again_with_the_same_numbers() -> None:
    pending = pending_with(3)
    first = pending.take()
    pending.put_back()
    pending.append(charge("later"))
    assert pending.rewind(2) == 2  # two were applied before the connection was lost
    again = pending.take()
    assert again[:3] == first
    assert numbers(again) == [1, 2, 3, 4]
    pending.answered([1, 1, 0, 0])
    assert (pending.charges, pending.counted) == (0, 4)


@pytest.mark.parametrize("number", [0, 3])
def test_what_a_store_has_lost_is_sent_again_until_it_was_durable(number: int) -> None:
    pending = pending_with(5)
    pending.take()
    pending.answered([0] * 5)
    pending.append(charge("e5"))
    pending.confirm(2)
    first_lost = max(number, 2) + 1
    assert pending.rewind(number) == first_lost - 1
    assert numbers(pending.take()) == list(range(first_lost, 7))
    assert pending.charges == 7 - first_lost


def test_a_gap_asks_for_a_new_connection() -> None:
    pending = pending_with(3)
    pending.take()
    pending.answered([0, 0, 0])
    pending.append(charge("l0"))
    pending.append(charge("l1"))
    pending.take()
    with pytest.raises(GapFoundError):
        pending.answered([[b"1"], [b"1"]])
    assert pending.rewind(1) == 1
    assert numbers(pending.take()) == [2, 3, 4, 5]


def kinds(operations: Sequence[Operation]) -> dict[str, str]:
    return {operation.entry_id: type(operation).__name__ for operation in operations}  # type: ignore[union-attr]


def test_a_new_connection_mends_holds_and_what_was_presumed() -> None:
    pending = Pending()
    for entry_id in ("held", "lost", "swept", "asked"):
        pending.live[entry_id] = Hold(opened(entry_id), [account()])
    pending.append(charge("done"))
    pending.append(pending.live["asked"])
    pending.mend(stored(0, holds=["held", "done", "stranger"], presumed=["swept", "never sent"]))
    assert kinds(pending.take()) == {
        "stranger": "Release",
        "never sent": "Reverse",
        "lost": "Hold",
        "done": "Charge",
        "asked": "Hold",
    }


def most_of(hold: Hold) -> str:
    """What may be committed already, as it travels; empty: whatever is."""
    _, _, [account_of_it], _, _ = msgspec.msgpack.decode(hold.payload)
    most: str = account_of_it[2]
    return most


def test_a_missing_hold_is_made_again_without_a_limit_but_one_that_waits_for_its_answer_is_not() -> None:
    refusing = Hold(opened("e"), [account(limit=1000)])
    assert most_of(refusing) == "900"
    assert most_of(refusing.again()) == ""


def test_who_waited_in_vain_and_was_let_through_is_held_again_and_not_given_back() -> None:
    pending = Pending()
    asked = Hold(opened("e"), [account(limit=1000)])
    pending.live["e"] = asked
    pending.append(asked)
    pending.take()
    pending.give_up(asked)  # it may have been applied
    pending.live["e"] = Hold(opened("e"), [account(limit=1000)], times=0)  # and the store is away: it is not told
    pending.put_back()
    pending.mend(Stored(0, frozenset(), frozenset()))
    [again] = pending.take()
    assert isinstance(again, Hold)
    assert (again.entry_id, most_of(again)) == ("e", "")


def test_what_is_rejected_when_it_comes_again_after_a_rollback_is_told_once() -> None:
    told: list[int] = []
    pending = Pending()
    one = charge()
    one.on_charged = lambda: told.append(1)
    pending.append(one)
    for _ in range(2):
        pending.take()
        pending.answered([0])
        pending.rewind(0)
    assert told == [1]


def test_a_finished_request_comes_back_from_its_journal_as_it_was() -> None:
    one = charge("e1")
    one.number = 7
    again = Numbered.of_body(7, "e1", one.body)
    assert (again.payload, again.entry_id) == (one.payload, "e1")
    aside = again.skip("why")
    assert (aside.id, aside.why, json.loads(aside.line)["id"]) == ("e1", "why", "e1")
    assert again.payload[0] == 5


def test_a_rejected_charge_keeps_its_number_and_its_place() -> None:
    pending = pending_with(3)
    pending.take()
    assert pending.answered([0, b"WRONGTYPE", [b"1"]])
    batch = pending.take()
    assert numbers(batch) == [2, 3]
    assert isinstance(batch[0], Charge)
    assert batch[0].is_skipped
    assert batch[0].payload[0] == 5
    pending.answered([0, 0])
    assert [each.id for each in pending.set_aside] == ["e1"]
    assert pending.charges == 0


def test_a_failing_script_is_narrowed_down_to_one() -> None:
    pending = pending_with(3)
    pending.append(Release("r"))
    pending.take()
    assert pending.failed("boom")
    assert len(pending.take()) == 1
    pending.answered([0])
    assert numbers(pending.take()) == [2]
    assert pending.failed("boom")
    [skipped] = pending.take()
    assert isinstance(skipped, Charge)
    assert skipped.is_skipped
    assert not pending.failed("boom")  # not the charge's fault: only its number is left
    pending.take()
    pending.answered([0])
    pending.take()
    pending.answered([0])
    assert [each.id for each in pending.set_aside] == ["e1"]


def test_a_beat_does_not_wait_behind_what_is_caught_up() -> None:
    pending = pending_with(3 * BATCH)
    pending.beat()
    assert pending.take()[0].payload == (7,)


async def test_a_hold_that_was_given_up_is_not_sent() -> None:
    pending = pending_with(0)
    hold = Hold(opened("h", 1), [account()])
    hold.given_up = True
    pending.append(hold)
    assert pending.take() == []


async def test_who_waits_at_the_end_is_told() -> None:
    import asyncio

    pending = pending_with(0)
    hold = Hold(opened("h", 1), [account()])
    hold.waiter = answer = Answer(asyncio.get_running_loop())
    pending.append(hold)
    pending.take()
    pending.close("the end")
    with pytest.raises(StoreAway, match="the end"):
        await answer.future


def test_releases_are_counted_apart() -> None:
    pending = pending_with(2)
    pending.append(Release("r"))
    assert (pending.charges, pending.releases, len(pending)) == (2, 1, 3)
