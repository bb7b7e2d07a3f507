"""A refusing budget at any concurrency: to the nano where holds equal costs, within one hold where they do not."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import product
from pathlib import Path

import pytest

from proxy.metering import endpoint_of, read_request
from proxy.metering.encodings import tokenizer_for
from proxy.metering.prompt import count_request
from rates.money import usd_text
from tests.chaos.crowd import Line
from tests.chaos.judgement import Truth, judge, out_of_balance
from tests.chaos.programs import Proxy, Upstream
from tests.chaos.town import quiet, running_store, serving
from tests.store.servers import Server
from tests.system.harness import chat

pytestmark = pytest.mark.slow

MODEL = "gpt-4o-mini"
INPUT, OUTPUT = 150, 600  # nanos a token
ENDPOINT = endpoint_of("POST", "chat/completions")


def request(text: str, most_output: int, *, prompt: int, completion: int, wait: str = "0.2") -> bytes:
    """`prompt` and `completion` is what the upstream will charge for it."""
    metadata = {"prompt": f"{prompt:06}", "completion": f"{completion:06}", "wait": wait}
    return json.dumps(chat(MODEL, text, max_tokens=most_output, metadata=metadata), ensure_ascii=False).encode()


def counted(body: bytes) -> int:
    """The prompt's tokens, as the API counts them."""
    found = count_request(ENDPOINT.name, body, tokenizer_for(MODEL))
    assert found is not None
    return found.tokens


def exactly_estimated(most_output: int) -> tuple[bytes, int]:
    """A request whose prompt has as many tokens as the quick estimate, made from its bytes alone, says.

    JSON has fewer tokens than that estimate takes it for; a letter of a rare script, which it takes for one, has three.
    """
    for rare, plain in product(range(1, 100), range(9)):
        text = "ꙮ" * rare + "a" * plain
        estimate = read_request(ENDPOINT, request(text, most_output, prompt=0, completion=0)).prompt_tokens
        body = request(text, most_output, prompt=estimate, completion=most_output)
        if counted(body) == estimate:
            return body, estimate
    raise AssertionError("no such request")


async def ask(lines: list[Line], bodies: list[bytes], name: str) -> Counter[str]:
    """All have their connections; then all send, each connection one request after the other."""
    seen: Counter[str] = Counter()
    waiting = iter(enumerate(bodies))

    async def client(line: Line) -> None:
        for number, body in waiting:
            await line.send(f"{name}-{number}", body, "sk-chaos")
            reply = json.loads(await line.body(await line.head()))
            seen["200" if line.status == 200 else f"{line.status} {reply['error']['code']}"] += 1

    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        for line in lines:
            group.create_task(client(line))
    return seen


@asynccontextmanager
async def limited(directory: Path, limit: int, *, proxies: int) -> AsyncIterator[tuple[Server, Upstream, list[Proxy]]]:
    """So many proxies on one store, under one refusing budget of `limit` nanos."""
    budget = {"name": "one", "limit_usd": usd_text(limit), "period": "total"}
    patient = {"budget": [budget], "store_timeout_ms": 20_000}
    with running_store() as store:
        async with serving(directory, [store.url] * proxies, **patient) as (upstream, running):
            yield store, upstream, running


async def connections(proxies: list[Proxy], number: int) -> list[Line]:
    return [await Line.to(proxies[each % len(proxies)].port) for each in range(number)]


def spent_and_held(store: Server) -> tuple[int, int]:
    with store.client() as look:
        committed, held = (int(look.get(f"{{taximeter}}:{kind}:one/total") or 0) for kind in ("committed", "held"))
        return committed - held, held


async def check_books(proxies: list[Proxy], store: Server, upstream: Upstream) -> None:
    lines = await quiet(proxies, store.client, 30)
    assert not judge(Truth.of(upstream.books), lines).findings
    with store.client() as look:
        assert not out_of_balance(look, lines)


async def test_a_thousand_at_once_for_a_hundred(tmp_path: Path) -> None:
    most_output = 50
    body, prompt = exactly_estimated(most_output)
    limit = 100 * (prompt * INPUT + most_output * OUTPUT)
    async with limited(tmp_path, limit, proxies=2) as (store, upstream, proxies):
        lines = await connections(proxies, 1000)
        seen = await ask(lines, [body] * 1000, "at-once")
        for line in lines:
            await line.close()
        await check_books(proxies, store, upstream)
        assert seen["200"] == 100, seen
        assert seen["429 budget_held"] + seen["429 budget_exceeded"] == 900, seen
        assert sum(Truth.of(upstream.books).read.values()) == 100
        assert spent_and_held(store) == (limit, 0)


@pytest.mark.slow
async def test_with_ordinary_estimates_the_limit_is_used_up_to_one_hold(tmp_path: Path) -> None:
    chance = random.Random(17)
    limit = 3_000_000
    last_words, most_output = "Over the bridge, please.", 40
    bodies = []
    for _ in range(600):
        words = " ".join(
            chance.choices(("left", "right", "through the town", "over the river"), k=chance.randrange(40))
        )
        most = chance.randrange(1, 80)
        prompt = counted(request(words, most, prompt=0, completion=0))
        bodies.append(request(words, most, prompt=prompt, completion=chance.randrange(most + 1)))
    small = request(last_words, most_output, prompt=0, completion=0)
    hold = counted(small) * INPUT + most_output * OUTPUT
    small = request(last_words, most_output, prompt=counted(small), completion=most_output // 2, wait="0")
    async with limited(tmp_path, limit, proxies=2) as (store, upstream, proxies):
        lines = await connections(proxies, 100)
        seen = await ask(lines, bodies, "ordinary")
        assert set(seen) <= {"200", "429 budget_held", "429 budget_exceeded"}, seen
        await quiet(proxies, store.client, 30)
        spent, held = spent_and_held(store)
        assert spent <= limit
        assert held == 0
        # Somebody who goes on asking, and waits for each answer, gets all but less than what one request holds.
        for number in range(400):
            [status] = await ask(lines[:1], [small], f"last-{number}")
            if status == "429 budget_exceeded":
                break
            assert status in ("200", "429 budget_held")
        else:
            raise AssertionError("the budget never refuses")
        for line in lines:
            await line.close()
        await check_books(proxies, store, upstream)
        spent, held = spent_and_held(store)
        assert held == 0
        assert limit - hold < spent <= limit


async def test_what_fits_exactly_is_served_however_rough_the_first_estimate(tmp_path: Path) -> None:
    body = request("To the opera, quickly.", 30, prompt=0, completion=0)
    prompt = counted(body)
    assert read_request(ENDPOINT, body).prompt_tokens > 3 * prompt
    body = request("To the opera, quickly.", 30, prompt=prompt, completion=30, wait="0")
    limit = 20 * (prompt * INPUT + 30 * OUTPUT)
    async with limited(tmp_path, limit, proxies=1) as (store, upstream, proxies):
        [line] = await connections(proxies, 1)
        seen = await ask([line], [body] * 20, "fits")
        seen += await ask([line], [body], "over")
        await line.close()
        await check_books(proxies, store, upstream)
        assert seen == {"200": 20, "429 budget_exceeded": 1}
        assert spent_and_held(store) == (limit, 0)
