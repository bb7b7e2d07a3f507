"""The order of operations, without a store."""

from typing import Any

import pytest

from proxy.errors import StoreAway
from proxy.store.operations import Charge, Hold, Release
from proxy.store.pending import BATCH, Pending
from tests.store.cases import account, entry


def charge(entry_id: str = "e") -> Charge:
    return Charge(entry(entry_id), [account()])


def numbers(operations: list[Any]) -> list[int | None]:
    return [operation.number for operation in operations]


def pending_with(count: int, stored: int = 0) -> Pending:
    pending = Pending()
    pending.reconcile(stored)
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
    assert numbers(pending_with(2, stored=41).take()) == [42, 43]


def test_a_lost_reply_sends_the_same_again_with_the_same_numbers() -> None:
    pending = pending_with(3)
    first = pending.take()
    pending.put_back()
    pending.append(charge("later"))
    pending.reconcile(2)  # two were applied before the connection was lost
    again = pending.take()
    assert again[:3] == first
    assert numbers(again) == [1, 2, 3, 4]
    pending.answered([1, 1, 0, 0])
    assert (pending.charges, pending.counted) == (0, 4)


@pytest.mark.parametrize("stored", [0, 3, 9])
def test_a_store_with_another_number_is_gone_on_with(stored: int) -> None:
    pending = pending_with(5)
    pending.take()
    pending.answered([0] * 5)
    pending.append(charge("e5"))
    pending.take()
    pending.put_back()
    pending.reconcile(stored)
    assert numbers(pending.take()) == [stored + 1]


def test_a_gap_numbers_what_waits_anew() -> None:
    pending = pending_with(3)
    pending.take()
    pending.answered([0, 0, 0])
    for number in range(3):
        pending.append(charge(f"l{number}"))
    assert numbers(pending.take()) == [4, 5, 6]
    assert not pending.answered([[b"1"], [b"1"], [b"1"]])
    assert numbers(pending.take()) == [2, 3, 4]


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


async def test_a_hold_that_was_given_up_is_not_sent() -> None:
    pending = pending_with(0)
    hold = Hold("h", [(account(), 1)])
    hold.given_up = True
    pending.append(hold)
    assert pending.take() == []


async def test_who_waits_at_the_end_is_told() -> None:
    import asyncio

    pending = pending_with(0)
    hold = Hold("h", [(account(), 1)])
    hold.answer = asyncio.get_running_loop().create_future()
    pending.append(hold)
    pending.take()
    pending.close("the end")
    with pytest.raises(StoreAway, match="the end"):
        await hold.answer


def test_releases_are_counted_apart() -> None:
    pending = pending_with(2)
    pending.append(Release("r"))
    assert (pending.charges, pending.releases, len(pending)) == (2, 1, 3)
