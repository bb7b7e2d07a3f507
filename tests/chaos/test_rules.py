"""The eight rules of journal and store, as a model over the real scripts; with each rule switched off it must fail."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.chaos.rules.model import Protocol
from tests.chaos.rules.parts import Rules
from tests.store.servers import Server as RealServer

EXAMPLES = int(os.environ.get("TAXIMETER_RULES_EXAMPLES", "150"))
SHRINK = "TAXIMETER_RULES_SHRINK" in os.environ
ALL = Rules()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    directory = Path(str(tmp_path_factory.mktemp("r")))
    server = RealServer("valkey", Path("/tmp") / f"taximeter-rules-{os.getpid()}", *("--dir", str(directory)))
    server.start()
    with redis.Redis(unix_socket_path=server.path) as client:
        yield client
    server.kill()


def check(client: redis.Redis, rules: Rules, examples: int, *, steps: int = 40) -> None:
    class Here(Protocol):
        pass

    Here.client, Here.in_force = client, rules
    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize="TAXIMETER_RULES_EXAMPLES" not in os.environ,
            phases=(Phase.generate, Phase.shrink) if SHRINK else (Phase.generate,),
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        ),
    )


@pytest.mark.slow
def test_all_rules_together_hold(client: redis.Redis) -> None:
    check(client, ALL, EXAMPLES)


def without(text: str, instead: str = "") -> Rules:
    """The script with a line less."""
    assert ALL.script.count(text) == 1, f"{ALL.script.count(text)} times in the script: {text}"
    return replace(ALL, script=ALL.script.replace(text, instead))


SWITCHED_OFF: dict[str, Callable[[], Rules]] = {
    "1: sent before it was journalled": lambda: replace(ALL, journals_open=False),
    "2: what was open gets no end": lambda: replace(ALL, presumes_orphans=False),
    "3: a record that comes again applies again": lambda: without(
        "drop(id) -- its hold came again together with it, after a lost reply\n  return 1", "return nil"
    ),
    "3: a record that comes too early applies": lambda: without(
        "if greater(before, number) then return { number } end", "if greater(before, number) then return nil end"
    ),
    "4: what was presumed is charged as well": lambda: without(
        "reversal = redis.call('HGET', presumed, id)\n  end", "end"
    ),
    "5: what was presumed is forgotten": lambda: without(
        "redis.call('HSET', presumed, id, cmsgpack.pack(reversal)) -- rule 5"
    ),
    "5: a hold revives what was presumed": lambda: without(
        "if has_presumed and redis.call('HEXISTS', presumed, id) == 1 then return 0 end -- rule 5: never revived"
    ),
    "6: a superseded connection still writes": lambda: without(
        "if connection[1] ~= ARGV[6] then -- rule 6", "if false then"
    ),
    "6: a hold that comes again holds again": lambda: without(
        "if redis.call('HEXISTS', holds, id) == 1 then return 0 end -- rule 6: idempotent by entry id"
    ),
    "7: a new connection mends nothing": lambda: replace(ALL, mends=False),
    "7: what the store lost is not sent again": lambda: replace(ALL, rewinds=False),
    "8: what is taken out of an advance stays in it": lambda: without(
        "redis.call('HSET', holds, advance, table.concat(left, '\\n') .. NOTHING_HELD)"
    ),
    "8: what is taken out of an advance is committed again": lambda: without("if not is_taken then", "if true then"),
    "8: what is given back stays held": lambda: without(
        "if held ~= '0' then account.held, account.more_held = account.held + held, account.more_held + held end"
    ),
    "8: what is given back stays committed": lambda: without(
        "account.committed, account.more = account.committed + amount, account.more + amount",
        "if held == '0' then account.committed, account.more = account.committed + amount, account.more + amount end",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SWITCHED_OFF)
def test_a_rule_that_is_switched_off_shows(client: redis.Redis, name: str) -> None:
    rules = SWITCHED_OFF[name]()
    with pytest.raises(AssertionError):
        check(client, rules, 10 * EXAMPLES)
