"""The scripted upstream keeps to the API where billing depends on it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from proxy.cli.demo_upstream import ScriptedUpstream

FINE_TUNED = "ft:gpt-4o-mini-2024-07-18:acme::abc123"
MESSAGES: Any = [{"role": "user", "content": "How far is it?"}]


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(extra_models=frozenset({"homegrown"})) as running:
        yield running


@pytest.fixture
async def client(upstream: ScriptedUpstream) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(api_key="sk-test", base_url=upstream.url, max_retries=0) as made:
        yield made


@pytest.mark.parametrize(
    ("asked", "served"),
    [("gpt-4o-mini", "gpt-4o-mini-2024-07-18"), (FINE_TUNED, FINE_TUNED), ("homegrown", "homegrown")],
)
async def test_the_served_model(
    upstream: ScriptedUpstream, client: openai.AsyncOpenAI, asked: str, served: str
) -> None:
    whole = await client.chat.completions.create(model=asked, messages=MESSAGES)
    assert whole.model == served
    assert upstream.served[0].model == served
    assert whole.usage is not None
    assert whole.usage.model_dump(exclude_unset=True) == upstream.served[0].usage()


async def test_usage_in_a_stream_only_when_asked(upstream: ScriptedUpstream, client: openai.AsyncOpenAI) -> None:
    create = client.chat.completions.create
    unasked = [chunk async for chunk in await create(model="gpt-4o", messages=MESSAGES, stream=True)]
    assert all("usage" not in chunk.model_fields_set and chunk.choices for chunk in unasked)
    options: Any = {"include_usage": True}
    asked = [c async for c in await create(model="gpt-4o", messages=MESSAGES, stream=True, stream_options=options)]
    assert len(asked) == len(unasked) + 1
    assert all("usage" in chunk.model_fields_set and chunk.usage is None for chunk in asked[:-1])
    assert asked[-1].choices == []
    assert asked[-1].usage is not None
    assert asked[-1].usage.total_tokens == upstream.served[1].prompt_tokens + upstream.served[1].completion_tokens
    assert [served.usage_told for served in upstream.served] == [False, True]


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
async def test_completion_never_exceeds_the_limit(
    upstream: ScriptedUpstream, client: openai.AsyncOpenAI, limit: str
) -> None:
    more: Any = {limit: 3, "n": 2}
    whole = await client.chat.completions.create(model="gpt-4o", messages=MESSAGES, **more)
    assert [choice.finish_reason for choice in whole.choices] == ["length", "length"]
    assert upstream.served[0].completion_tokens == 6


async def test_long_prompts_are_cached_in_steps(upstream: ScriptedUpstream, client: openai.AsyncOpenAI) -> None:
    for number in range(8):
        messages: Any = [{"role": "user", "content": f"{number} " + "mile " * 1000}]
        await client.chat.completions.create(model="gpt-4o", messages=messages)
    cached = {served.cached_tokens for served in upstream.served}
    assert cached == {0, upstream.served[0].prompt_tokens // 128 * 128}


async def test_errors(client: openai.AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        await client.chat.completions.create(model="gpt-4o-nonexistent", messages=MESSAGES)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.AuthenticationError) as wrong:
        await client.with_options(api_key="wrong").models.list()
    assert wrong.value.code == "invalid_api_key"
    with pytest.raises(openai.BadRequestError) as negative:
        await client.chat.completions.create(model="gpt-4o", messages=MESSAGES, max_tokens=-1)
    assert negative.value.param == "max_tokens"
    assert upstream.served == []
    assert upstream.received == 3


async def test_a_connection_serves_many_and_none_is_left(upstream: ScriptedUpstream) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", upstream.port)
    for _ in range(3):
        writer.write(b"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-1\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        assert "gpt-4o" in {model["id"] for model in json.loads(await reader.readexactly(length))["data"]}
    await upstream.__aexit__()
    assert await reader.read() == b""
    writer.close()
