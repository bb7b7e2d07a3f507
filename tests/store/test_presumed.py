"""What a sweeper presumes, and what becomes of it when somebody who knows comes after all: rules 4 and 5."""

import json
from typing import Any, cast

import pytest
import redis

from proxy.store import keys
from proxy.store.operations import ForgetParked, Hold, Presume, PresumeParked, Reverse
from tests.store.calling import Caller, charge, ledger, park, standing, sums
from tests.store.cases import AT, account, opened

TOTAL, MONTH = account("total", limit=100, period="total"), account("month", limit=60)
ALERT = account("alert", limit=10, refuses=False)
DUE_AT = AT.timestamp() // 1 + 86_400


@pytest.fixture
def caller(raw: redis.Redis) -> Caller:
    return Caller(raw)


def due(raw: redis.Redis) -> list[Any]:
    """Parked requests and when they are seen to."""
    return raw.zrange(keys.PARKED, 0, -1, withscores=True)


def test_a_hold_becomes_a_presumed_entry_once(caller: Caller, raw: redis.Redis) -> None:
    budget, guess = TOTAL, MONTH
    request = opened("e1", 40, budget)
    assert caller.call(Hold(request, [budget, guess])) == [0]
    assert caller.call(Presume(request, "host_lost", "w"), Presume(request, "host_lost", "w")) == [0, 1]
    [line] = ledger(raw)
    assert (line["status"], line["reason"], line["cost_nanos"], line["requests"]) == ("presumed", "host_lost", 40, 1)
    assert (line["line"], line["usage"], line["writer"]) == ("entry", {"input": 12, "output": 50}, "w")
    assert sums(raw) == {"requests": 1, "input": 12, "output": 50, "nanos": 40}
    assert (standing(raw, budget), standing(raw, guess)) == ((40, 0), (0, 0))
    assert 0 < raw.ttl(keys.presumed("w")) <= keys.WRITER_KEPT_SECONDS
    # A hold that comes late does not revive it.
    assert caller.call(Hold(request, [budget])) == [0]
    assert standing(raw, budget) == (40, 0)
    assert not raw.exists(keys.holds("w"))


def test_a_presumed_entry_is_corrected_by_what_is_true(caller: Caller, raw: redis.Redis) -> None:
    guessed, true = TOTAL, MONTH
    request = opened("e1", 40, guessed)
    assert caller.call(Hold(request, [guessed]), Presume(request, "host_lost", "w")) == [0, 0]
    finished = charge(1, "e1", 5, [true])
    assert caller.call(finished, finished) == [0, 1]
    lines = ledger(raw)
    assert [(each["line"], each["requests"], each["cost_nanos"]) for each in lines] == [
        ("entry", 1, 40),
        ("correction", -1, -40),
        ("correction", 1, 5),
    ]
    assert lines[1]["moved"] == [["total", guessed.key, -40]]
    assert lines[1]["usage"] == {"input": -12, "output": -50}
    assert sums(raw) == {"requests": 1, "input": 10, "output": 5, "nanos": 5}
    assert (standing(raw, guessed), standing(raw, true)) == ((0, 0), (5, 0))
    assert not raw.exists(keys.presumed("w"))


def test_what_was_presumed_of_a_request_that_was_never_sent_is_taken_back(caller: Caller, raw: redis.Redis) -> None:
    budget = TOTAL
    request = opened("e1", 40, budget)
    assert caller.call(Hold(request, [budget]), Presume(request, "host_lost", "w")) == [0, 0]
    assert caller.call(Reverse("e1"), Reverse("e1"), Reverse("never")) == [0, 0, 0]
    assert [(each["line"], each["requests"]) for each in ledger(raw)] == [("entry", 1), ("correction", -1)]
    assert (sums(raw), standing(raw, budget)) == ({}, (0, 0))


def test_an_account_that_has_expired_stays_away_when_a_presumed_entry_is_corrected(
    caller: Caller, raw: redis.Redis
) -> None:
    gone = MONTH
    request = opened("e1", 40, gone)
    assert caller.call(Hold(request, [gone]), Presume(request, "host_lost", "w")) == [0, 0]
    raw.delete(keys.committed(gone.key), keys.held(gone.key))
    assert caller.call(charge(1, "e1", 5, [])) == [0]
    assert not raw.exists(keys.committed(gone.key), keys.held(gone.key))


def test_an_unpriced_request_is_presumed_without_a_price(caller: Caller, raw: redis.Redis) -> None:
    budget = ALERT
    request = opened("e1", None, budget)
    assert caller.call(Hold(request, [budget]), Presume(request, "host_lost", "w")) == [0, 0]
    assert caller.call(charge(1, "e1", 7, [budget])) == [0]
    assert [(each["status"], each["cost_nanos"], each["moved"]) for each in ledger(raw)] == [
        ("unpriced", None, [["alert", budget.key, 0]]),
        ("unpriced", None, [["alert", budget.key, 0]]),
        ("reported", 7, []),
    ]
    assert standing(raw, budget) == (7, 0)


def test_a_parked_request_is_presumed_then_corrected_or_forgotten(raw: redis.Redis) -> None:
    one, other = Caller(raw, "one"), Caller(raw, "other")
    budget = TOTAL
    requests = [opened(entry_id, 40, budget) for entry_id in ("e1", "e2")]
    for number, request in enumerate(requests, start=1):
        assert one.call(Hold(request, [budget]), park(number, request.id, "resp")) == [0, 0]
    key = keys.background("resp")
    assert due(raw) == [(f"e1 {key}", DUE_AT), (f"e2 {key}", DUE_AT)]
    for request in requests:
        assert other.call(PresumeParked(request, "no_answer", key, 2 * 10**9)) == [0]
    assert standing(raw, budget) == (80, 0)
    assert {score for _, score in due(raw)} == {2e9}
    assert one.call(charge(3, "e1", 5, [budget], parked="resp")) == [0]
    assert one.call(charge(4, "e1", 5, [budget], parked="resp")) == [2]
    assert standing(raw, budget) == (45, 0)
    assert [(each["line"], each["requests"]) for each in ledger(raw) if each["id"] == "e1"] == [
        ("entry", 1),
        ("correction", -1),
        ("correction", 1),
    ]
    assert other.call(PresumeParked(requests[1], "no_answer", key, 3 * 10**9)) == [1]
    assert other.call(ForgetParked("e2", key), ForgetParked("e2", key)) == [0, 0]
    assert not raw.exists(key, keys.PARKED)
    assert standing(raw, budget) == (45, 0)


def test_a_request_that_was_presumed_before_it_was_parked_is_corrected_at_its_end(raw: redis.Redis) -> None:
    caller, budget = Caller(raw), TOTAL
    request = opened("e1", 40, budget)
    assert caller.call(Hold(request, [budget]), Presume(request, "host_lost", "w")) == [0, 0]
    assert caller.call(park(1, "e1", "resp")) == [0]
    assert not raw.exists(keys.presumed("w"))
    assert caller.call(charge(2, "e1", 5, [budget], parked="resp")) == [0]
    assert [each["requests"] for each in ledger(raw)] == [1, -1, 1]
    assert (standing(raw, budget), sums(raw)["requests"]) == ((5, 0), 1)


def test_what_was_parked_without_a_hold_keeps_what_is_known_of_it(raw: redis.Redis) -> None:
    caller = Caller(raw)
    assert caller.call(park(1, "e1", "resp")) == [0]
    kept = str(raw.hget(keys.background("resp"), "e1"))
    assert kept.partition("\n")[2] == "\n\n" + Hold(opened("e1"), []).record


def test_what_is_skipped_is_set_aside_in_the_store(caller: Caller, raw: redis.Redis) -> None:
    one = charge(1, "e1", 5, [TOTAL])
    one.skip("WRONGTYPE")
    assert caller.call(Hold(opened("e1", 9), [TOTAL]), one) == [0, 0]
    assert standing(raw, TOTAL) == (0, 0)
    [(_, fields)] = cast("Any", raw.xrange(keys.ASIDE))
    assert (fields["why"], json.loads(fields["e"])["id"]) == ("WRONGTYPE", "e1")
