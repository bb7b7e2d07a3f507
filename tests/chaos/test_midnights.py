"""Requests around midnights at which clocks jump, over the end of a period, and settled months late."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import redis

from proxy.config import BudgetConfig
from proxy.store import keys
from tests.chaos.desk import COST, desk
from tests.chaos.judgement import PREFIX, out_of_balance
from tests.chaos.judgement import ledger_of as ledger
from tests.chaos.town import running_store
from tests.store.servers import Server

pytestmark = pytest.mark.slow

# Clocks jump at or around local midnight there, or have done so; Troll jumps by two hours, Lord Howe by half of one.
ZONES = (
    *("America/Havana", "Asia/Beirut", "Africa/Cairo", "America/Asuncion", "Atlantic/Azores", "America/Scoresbysund"),
    *("America/Santiago", "America/St_Johns", "Antarctica/Troll", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"),
)
KINDS = ("day", "week", "month")
YEAR = 2035
"""Far ahead: accounts of a period that has ended long ago would be gone at once."""
AROUND = [timedelta(seconds=seconds) for seconds in (-7200, -3601, -3600, -1, 0, 1, 1800, 3599, 3600, 7200)]
FOR_EVER = ("ledger", "sums:", "birth", "keys", "writers", "durable", "aside", "committed:", "held:")
"""What has no expiry: books, names of writers, and accounts of a budget without a period."""


@pytest.fixture(scope="module")
def store() -> Iterator[Server]:
    with running_store() as running:
        yield running


@pytest.fixture
def look(store: Server) -> Iterator[redis.Redis]:
    with store.client() as client:
        client.flushall()
        yield client


def budgets(zone: str) -> list[BudgetConfig]:
    return [
        BudgetConfig(name=kind, limit_nanos=10**12, period=kind, timezone=zone)  # type: ignore[arg-type]
        for kind in KINDS
    ]


def jumps(zone: str) -> list[datetime]:
    """The moments of a year at which the clocks of a zone jump, to the second."""
    found = []
    here = ZoneInfo(zone)
    hour = timedelta(hours=1)
    at = datetime(YEAR, 1, 1, tzinfo=UTC)
    while at.year == YEAR:
        if at.astimezone(here).utcoffset() != (at + hour).astimezone(here).utcoffset():
            low, high = at, at + hour
            while high - low > timedelta(seconds=1):
                middle = low + (high - low) // 2
                middle = middle.replace(microsecond=0)
                if middle.astimezone(here).utcoffset() == at.astimezone(here).utcoffset():
                    low = middle
                else:
                    high = middle
            found.append(high)
        at += hour
    return found


def midnights(zone: str) -> list[datetime]:
    """Ends of ordinary days: of a Sunday, a month, a year, and of a leap day."""
    here = ZoneInfo(zone)
    ends = (date(YEAR, 7, 2), date(YEAR, 7, 1), date(YEAR + 1, 1, 1), date(YEAR + 1, 3, 1))
    return [datetime(day.year, day.month, day.day, tzinfo=here).astimezone(UTC) for day in ends]


def accounts_at(zone: str, at: datetime) -> set[str]:
    """By the calendar on the wall there. Where clocks are set back over midnight, a new day has begun for good."""
    here = ZoneInfo(zone)
    earlier = (at - timedelta(seconds=60 * minutes) for minutes in range(181))
    day = max(each.astimezone(here).date() for each in (at, *earlier))
    year, week, _ = day.isocalendar()
    return {f"day/{day.isoformat()}", f"week/{year}-W{week:02}", f"month/{day:%Y-%m}"}


def check_expiry(look: redis.Redis) -> None:
    for key in look.scan_iter(f"{PREFIX}*"):
        name = key.removeprefix(PREFIX)
        if look.ttl(key) < 0:
            assert name.startswith(FOR_EVER), f"{key} has no expiry"
            assert not name.startswith(("committed:", "held:")) or name.endswith("/total"), f"{key} has no expiry"


@pytest.mark.parametrize("zone", ZONES)
async def test_each_moment_belongs_to_the_period_on_the_wall(
    zone: str, store: Server, look: redis.Redis, tmp_path: Path
) -> None:
    moments = [at + by for at in jumps(zone) + midnights(zone) for by in AROUND]
    expected: Counter[str] = Counter()
    async with desk(store.url, tmp_path, budgets(zone)) as made:
        admitted = [await made.admit(at) for at in moments]
        for each in admitted:  # all were under way when their periods ended
            made.settle(each)
            expected.update(accounts_at(zone, each.at))
    wrong = [
        (line["at"], line["moved"])
        for line in ledger(look)
        if {account for _, account, _ in line["moved"]} != accounts_at(zone, datetime.fromisoformat(line["at"]))
    ]
    assert not wrong
    spent = {key.removeprefix(keys.COMMITTED): int(look.get(key) or 0) for key in look.scan_iter(f"{keys.COMMITTED}*")}
    assert spent == {account: number * COST for account, number in expected.items()}
    assert not out_of_balance(look, ledger(look))
    check_expiry(look)


def test_the_zones_jump_at_midnight() -> None:
    """Proof that this file tests what it says: somewhere midnight does not exist, and somewhere it comes twice."""
    walls = Counter(at.astimezone(ZoneInfo(zone)).strftime("%H:%M") for zone in ZONES for at in jumps(zone))
    assert walls["01:00"] >= 3, walls  # from 00:00 on
    assert walls["00:00"] + walls["23:00"] >= 3, walls  # back to


@pytest.mark.parametrize(("days_late", "is_there"), [(80, True), (89, True), (92, False), (200, False)])
async def test_settled_late(days_late: int, is_there: bool, store: Server, look: redis.Redis, tmp_path: Path) -> None:
    """Its period is the one in which it began. An account that has expired by then does not come back for ever."""
    zone = "America/Havana"
    at = datetime.now(UTC) - timedelta(days=days_late)
    total = BudgetConfig(name="all", limit_nanos=10**12, period="total")
    async with desk(store.url, tmp_path, [*budgets(zone)[:1], total]) as made:
        made.settle(await made.admit(at))
    [line] = ledger(look)
    day = at.astimezone(ZoneInfo(zone)).date().isoformat()
    assert {account for _, account, _ in line["moved"]} == {f"day/{day}", "all/total"}
    assert look.get(f"{keys.COMMITTED}all/total") == str(COST)
    assert look.get(f"{keys.COMMITTED}day/{day}") == (str(COST) if is_there else None)
    ends = look.ttl(f"{keys.COMMITTED}day/{day}")
    assert (0 < ends <= (92 - days_late) * 86_400) if is_there else ends == -2
    assert look.get(f"{keys.HELD}day/{day}") == ("0" if is_there else None)
    check_expiry(look)


async def test_a_hold_of_an_account_that_expires_while_it_is_under_way(
    store: Server, look: redis.Redis, tmp_path: Path
) -> None:
    at = datetime.now(UTC)
    async with desk(store.url, tmp_path, budgets("UTC")[:1]) as made:
        admitted = await made.admit(at)
        [account] = admitted.accounts
        assert look.get(f"{keys.HELD}{account.key}") != "0"
        for name in (keys.COMMITTED, keys.HELD):
            look.delete(f"{name}{account.key}")  # as Redis does it when their time has come
        made.settle(admitted)
    assert int(look.get(f"{keys.COMMITTED}{account.key}") or 0) == COST
    assert look.get(f"{keys.HELD}{account.key}") in (None, "0")
    assert look.ttl(f"{keys.COMMITTED}{account.key}") > 0
