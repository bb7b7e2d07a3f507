"""Transparent: a client cannot tell taximeter's answer from the upstream's, byte for byte."""

import asyncio
import json
import random
import zlib
from collections import Counter
from typing import Any

import pytest

from tests.fakes.replay import Recording, ReplayUpstream
from tests.system.client import HEADERS, Answer, Client, client
from tests.system.harness import FINE_TUNED, Start, chat
from tests.system.replies import recorded, stream, whole_reply

# Between two machines only, never the client's business; plus what taximeter adds.
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "x-taximeter-entry", "x-taximeter-cost-usd", "date"}
AT_A_TIME = 20


def visible(answer: Answer) -> tuple[int, list[tuple[str, str]], bytes, bool]:
    # Where the upstream ends the body by closing, a length may be told instead.
    lengths = {("content-length", str(len(answer.body)))}
    lines = [line for line in answer.headers if line[0] not in HOP_BY_HOP and line not in lengths]
    return answer.status, sorted(lines), answer.body, answer.broken


async def both(
    http: Client, upstream: str, meter: str, method: str, path: str, body: bytes | None
) -> tuple[Answer, Answer]:
    direct = await http.send(method, f"{upstream}/{path}", body=body)
    return direct, await http.send(method, f"{meter}/{path}", body=body)


def request_for(number: int, chance: random.Random, *, streamed: bool) -> tuple[str, str, bytes | None]:
    where = f"?recording={number}"
    if streamed or chance.random() < 0.5:
        more: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}} if streamed else {}
        return "POST", f"chat/completions{where}", json.dumps(chat(FINE_TUNED, **more)).encode()
    method = chance.choice(("GET", "POST", "DELETE", "GET"))
    path = chance.choice(("models", "files/file-1/content", "embeddings", "some/thing%2Fodd", "responses"))
    return method, f"{path}{where}&after=a%20b+c&x", b'{"input": "x"}' if method == "POST" else None


async def test_a_thousand_replies_and_streams(start: Start) -> None:
    chance = random.Random(4711)
    recordings: list[tuple[Recording, bool]] = []
    while len(recordings) < 1000:
        recordings += [(each, b"event-stream" in b"".join(each.pieces)) for each in recorded(chance)]
        recordings += [(whole_reply(chance), False) for _ in range(20)]
        recordings += [(stream(chance), True) for _ in range(15)]
    upstream = ReplayUpstream([recording for recording, _ in recordings])
    async with upstream, start(upstream.url, workers=2) as meter, client(AT_A_TIME * 2) as http:
        gate = asyncio.Semaphore(AT_A_TIME)

        async def compare(number: int, streamed: bool) -> None:
            method, path, body = request_for(number, random.Random(number), streamed=streamed)
            async with gate:
                direct, through = await both(http, upstream.url, meter.base_url, method, path, body)
            assert visible(through) == visible(direct), (number, method, path)
            assert through.header("x-taximeter-entry")

        await asyncio.gather(*(compare(number, streamed) for number, (_, streamed) in enumerate(recordings)))
        scrape = await meter.scrape()
    assert scrape.value("taximeter_requests_total") == len(recordings)
    # Each arrived twice, and the second time as the first.
    arrived = Counter((request.method, request.target, request.body) for request in upstream.received)
    assert set(arrived.values()) == {2}
    assert len(arrived) == len(recordings)


async def test_requests_arrive_as_they_were_sent(start: Start) -> None:
    """Nothing but the hop's own headers changes on the way up, when nothing has to be asked for."""
    body = json.dumps(chat(FINE_TUNED, "línea 🚕 \u0000", seed=7, temperature=0.30000000000000004), indent=1).encode()
    odd = b'{ "model" :"gpt-4o-mini","messages":[],"x":1e400,"y":"\\ud800" , "n":1}'
    sent = {
        "authorization": "Bearer sk-mine",
        "content-type": "application/json",
        "user-agent": "mine/1.0",
        "openai-organization": "org-mine",
        "openai-project": "proj-mine",
        "openai-beta": "assistants=v2",
        "x-client-request-id": "c-1",
        "x-stainless-retry-count": "1",
        "idempotency-key": "i-1",
        "accept": "application/json",
        "x-own": "kept",
        "connection": "x-hop",
        "x-hop": "dropped",
    }
    upstream = ReplayUpstream([whole_reply(random.Random(1))])
    async with upstream, start(upstream.url) as meter, client() as http:
        for each in (body, odd):
            await http.send("POST", f"{meter.base_url}/chat/completions?recording=0&a=%2F+b", body=each, headers=sent)
    for request, expected in zip(upstream.received, (body, odd), strict=True):
        assert request.body == expected
        assert request.target == "/v1/chat/completions?recording=0&a=%2F+b"
        assert request.headers["host"] == f"127.0.0.1:{upstream.port}"
        assert "x-hop" not in request.headers
        assert request.headers["content-length"] == str(len(expected))
        hop = {"connection", "x-hop"}
        assert {name: request.headers.get(name) for name in sent if name not in hop} == {
            name: value for name, value in sent.items() if name not in hop
        }
        assert "zstd" not in request.headers.get("accept-encoding", "")


async def test_a_stream_whose_usage_was_asked_for_here_looks_unasked(start: Start) -> None:
    chance = random.Random(815)
    recordings = [stream(chance) for _ in range(200)]
    upstream = ReplayUpstream(recordings)
    body = json.dumps(chat("gpt-4o-mini", stream=True)).encode()
    async with upstream, start(upstream.url, workers=2) as meter, client(AT_A_TIME * 2) as http:
        gate = asyncio.Semaphore(AT_A_TIME)

        async def compare(number: int) -> None:
            async with gate:
                path = f"chat/completions?recording={number}"
                direct, through = await both(http, upstream.url, meter.base_url, "POST", path, body)
            assert visible(through) == visible(direct), number

        await asyncio.gather(*(compare(number) for number in range(len(recordings))))
        report = await meter.report(requests=len(recordings))
        scrape = await meter.scrape()
    # It was asked for, it came, and it was charged: nothing had to be estimated.
    assert sum(b"include_usage" in request.body for request in upstream.received) == len(recordings)
    assert not scrape.value("taximeter_estimated_requests_total")
    assert report["total"]["cost_nanos"] > 0


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_upstream_that_compresses_unasked(start: Start, streamed: bool) -> None:
    """It was asked for identity. The client asked for gzip, and reads the answer either way; it is metered either way."""
    usage = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}
    reply: dict[str, Any] = {"id": "c", "model": "gpt-4o-mini-2024-07-18", "choices": [], "usage": usage}
    plain = json.dumps(reply).encode()
    if streamed:
        plain = b"data: " + plain + b"\n\ndata: [DONE]\n\n"
    packer = zlib.compressobj(wbits=31)
    body = packer.compress(plain) + packer.flush()
    content_type = "text/event-stream" if streamed else "application/json"
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-encoding: gzip\r\n"
    recording = Recording((f"{head}content-length: {len(body)}\r\n\r\n".encode() + body,))
    options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}} if streamed else {}
    headers = HEADERS | {"accept-encoding": "gzip, deflate, zstd", "content-type": "application/json"}
    async with ReplayUpstream([recording]) as upstream, start(upstream.url) as meter, client() as http:
        sent = json.dumps(chat("gpt-4o-mini", **options)).encode()
        answer = await http.send("POST", f"{meter.base_url}/chat/completions?recording=0", body=sent, headers=headers)
        report = await meter.report(requests=1)
    packed = answer.header("content-encoding") == "gzip"
    assert (zlib.decompress(answer.body, wbits=31) if packed else answer.body) == plain
    assert upstream.received[0].headers.get("accept-encoding", "identity") in ("identity", "gzip")
    assert report["total"]["cost_nanos"] == 450_000
