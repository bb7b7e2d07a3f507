"""The grammar of a budget: exact limits, owners, time zones, thresholds."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from proxy.config import BudgetConfig, load_config
from proxy.config.budgets import owner_problem
from proxy.errors import ConfigError


def budget(directory: Path, **fields: str) -> BudgetConfig:
    """A budget with some fields replaced by TOML text."""
    table = {"name": '"b"', "limit_usd": '"1"', "period": '"day"', **fields}
    text = "[[budget]]\n" + "\n".join(f"{key} = {value}" for key, value in table.items())
    (directory / "taximeter.toml").write_text(text)
    (record,) = load_config({}, {"HOME": "/h"}, directory).budgets
    return record


def complaint(directory: Path, **fields: str) -> str:
    with pytest.raises(ConfigError) as caught:
        budget(directory, **fields)
    return str(caught.value)


def test_defaults(tmp_path: Path) -> None:
    expected = BudgetConfig(
        name="b",
        limit_nanos=10**9,
        period="day",
        timezone="UTC",
        alert_at=(Decimal("0.8"), Decimal(1)),
        on_exceed="refuse",
        on_store_loss="allow",
    )

    assert expected == budget(tmp_path)


@pytest.mark.parametrize(
    ("written", "nanos"),
    [
        ('"500"', 500 * 10**9),
        ('"500.00"', 500 * 10**9),
        ("500", 500 * 10**9),
        ("0", 0),
        ('"0.000000001"', 1),
        ('"0.1000000000"', 10**8),  # ten places, the last of them nothing
        ('"9199999999.999999999"', 9_199_999_999_999_999_999),
    ],
)
def test_limits_are_exact(tmp_path: Path, written: str, nanos: int) -> None:
    assert nanos == budget(tmp_path, limit_usd=written).limit_nanos


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("500.00", 'limit_usd = 500.00: money is exact, a float is not: write it in quotes, limit_usd = "500.00"'),
        ("1e3", 'write it in quotes, limit_usd = "1000"'),
        ("inf", 'write it in quotes, limit_usd = "500.00"'),
        ("-1", "must be zero or more"),
        ('"-0.5"', "must be zero or more"),
        ('"$500"', "must be plain digits with a point"),
        ('"1,000"', "must be plain digits with a point"),
        ('"1e3"', "must be plain digits with a point"),
        ('"NaN"', "must be plain digits with a point"),
        ('"٣"', "must be plain digits with a point"),
        ('""', "must be plain digits with a point"),
        ('"0.0000000001"', "has more than 9 decimal places"),
        ("9200000000", "must be below 9,200,000,000 USD"),
        ("0x" + "f" * 5000, "must be below 9,200,000,000 USD"),
        ('"' + "9" * 4000 + '"', "must be below 9,200,000,000 USD"),
        ("true", 'must be an amount in quotes: limit_usd = "500.00"'),
        ("[1]", 'must be an amount in quotes: limit_usd = "500.00"'),
    ],
)
def test_limits_that_cannot_be(tmp_path: Path, written: str, message: str) -> None:
    found = complaint(tmp_path, limit_usd=written)

    assert found.startswith('taximeter.toml: budget "b": limit_usd = ')
    assert message in found


@pytest.mark.parametrize("owner", ["acme", "a", "0-9._x", "a" * 63, "anonymous", "key-1a2b3c4d", "key-" + "0f" * 32])
def test_owners(tmp_path: Path, owner: str) -> None:
    assert owner == budget(tmp_path, owner=json.dumps(owner)).owner


@pytest.mark.parametrize(
    ("owner", "message"),
    [
        ("Acme", "an owner has 1 to 63 characters of a-z"),
        ("a" * 64, "an owner has 1 to 63 characters of a-z"),
        ("", "is empty"),
        ("other", '"other" is reserved'),
        ("key-1a2b", "come the first 8 or all 64 hex digits"),
        ("key-1A2B3C4D", "come the first 8 or all 64 hex digits"),
        ("key-1a2b3c4d5", "come the first 8 or all 64 hex digits"),  # would match nobody
    ],
)
def test_owners_that_cannot_be(tmp_path: Path, owner: str, message: str) -> None:
    assert message in complaint(tmp_path, owner=json.dumps(owner))


def test_owners_of_new_keys() -> None:
    assert owner_problem("acme") is None
    for owner in ("anonymous", "other", "key-", "key-1a2b3c4d"):
        assert "reserved" in str(owner_problem(owner))
    for owner in ("", "A", "a b", "a\n", "é", "a" * 64):
        assert "1 to 63 characters" in str(owner_problem(owner))


@pytest.mark.parametrize(
    ("zone", "message"),
    [
        (
            "Europe/Berln",
            'timezone = "Europe/Berln": is no time zone of the IANA database; did you mean "Europe/Berlin"?',
        ),
        ("utc+1000x", "is no time zone of the IANA database"),
        ("../../etc/passwd", "is no time zone of the IANA database"),
        ("/etc/localtime", "is no time zone of the IANA database"),
        ("America", "is no time zone of the IANA database"),
    ],
)
def test_time_zones_that_cannot_be(tmp_path: Path, zone: str, message: str) -> None:
    assert message in complaint(tmp_path, timezone=json.dumps(zone))


def test_thresholds_are_exact_sorted_and_each_once(tmp_path: Path) -> None:
    expected = (Decimal("0.1"), Decimal("0.8"), Decimal(1), Decimal(10))

    found = budget(tmp_path, alert_at='[1.0, 0.8, "0.80", 10, 0.10]').alert_at

    assert expected == found
    assert [str(share) for share in found] == ["0.1", "0.8", "1", "10"]
    assert budget(tmp_path, alert_at="[]").alert_at == ()


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("[80]", "alert_at[0] = 80: must be above 0 and at most 10 (0.8 is 80% of the limit); for 80% write 0.8"),
        ("[0.8, 0]", "alert_at[1] = 0: must be above 0"),
        ('["80%"]', "must be a share of the limit"),
        ("[nan]", "must be a share of the limit"),
        ("[-0.5]", "must be a share of the limit"),
        ("[true]", "must be a share of the limit"),
        ("[0.12345678]", "must be a share of the limit with at most 6 decimals"),
        ("0.8", 'must be an array: write ["…"]'),
    ],
)
def test_thresholds_that_cannot_be(tmp_path: Path, written: str, message: str) -> None:
    assert message in complaint(tmp_path, alert_at=written)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": '"a b"'}, "a name has 1 to 63 characters"),
        ({"name": '""'}, "is empty"),
        ({"name": "1"}, "taximeter.toml: budget number 1: name = 1: must be text in quotes"),
        ({"period": '"monthly"'}, 'must be "day", "week", "month" or "total"; did you mean "month"?'),
        ({"per": '"model"'}, 'per = "model": must be "owner"'),
        ({"per": '"owner"', "owner": '"acme"'}, 'cannot stand beside owner = "acme"; leave one of them out'),
        ({"fine_tuned": '"yes"'}, "must be true or false"),
        ({"model": '""'}, "is empty"),
        ({"on_exceed": '"deny"'}, 'must be "refuse" or "alert"'),
        ({"on_store_loss": '"alert"'}, 'must be "allow" or "refuse"'),
    ],
)
def test_fields_that_cannot_be(tmp_path: Path, fields: dict[str, str], message: str) -> None:
    assert message in complaint(tmp_path, **fields)
