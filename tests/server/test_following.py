"""What people change in the store is noticed at the next look, and only then read."""

from datetime import UTC, datetime
from typing import cast

from proxy.budgets import Raise, Raises
from proxy.errors import StoreAway, StoreRefused
from proxy.server.following import Following
from proxy.store import Store

AT = datetime(2026, 11, 22, tzinfo=UTC)
RAISED = Raise(budget="b", owner=None, limit=1, until=AT, who="ann", why="night", at=AT)


class ChangingStore:
    """Has a revision, and raises that can be wrong or out of reach."""

    def __init__(self) -> None:
        self.now: bytes | None = None
        self.raises: list[Raise] = []
        self.fault: Exception | None = None
        self.read = 0

    async def revision(self) -> bytes | None:
        if self.fault is not None:
            raise self.fault
        return self.now

    async def read_raises(self) -> list[Raise]:
        self.read += 1
        return self.raises


async def test_raises_are_read_at_first_and_after_each_change() -> None:
    store, heard, looks = ChangingStore(), list[Raises](), list[bytes | None]()
    following = Following(cast("Store", store), heard.append, lambda revision, _: looks.append(revision))
    for _ in range(3):
        await following.look()
    store.now, store.raises = b"1", [RAISED]
    for _ in range(3):
        await following.look()

    assert heard == [Raises(), Raises([RAISED])]
    assert store.read == 2
    assert looks == [None, None, None, b"1", b"1", b"1"]


async def test_while_the_store_cannot_say_nothing_is_heard() -> None:
    store, heard, looks = ChangingStore(), list[Raises](), list[bytes | None]()
    following = Following(cast("Store", store), heard.append, lambda revision, _: looks.append(revision))
    for fault in (StoreAway("away"), StoreRefused("what is that?")):
        store.fault = fault
        await following.look()
    assert (heard, looks) == ([], [])

    store.fault = None
    await following.look()
    assert (heard, looks) == ([Raises()], [None])
