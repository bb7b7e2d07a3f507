"""The corpus of malformed requests against the real thing: refused, nothing upstream, and others are not concerned."""

import asyncio
import json

from proxy.cli.demo_upstream import ScriptedUpstream
from tests.http1.reading import Case, cases
from tests.system.client import client
from tests.system.harness import Start, chat

AT_A_TIME = 20


async def test_the_corpus(start: Start, upstream: ScriptedUpstream) -> None:
    corpus = [case for case in cases("refused_requests.toml") if not case.raw.startswith(b"GET /v1/x HTTP/1.1\n")]
    gate = asyncio.Semaphore(AT_A_TIME)
    async with start(upstream.url) as meter, client() as http:
        host, _, port = meter.url.removeprefix("http://").partition(":")

        async def send(case: Case) -> None:
            async with gate, asyncio.timeout(30):
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(case.raw)
                answer = await reader.read()
                writer.close()
            head, _, body = answer.rpartition(b"\r\n\r\n")
            assert b"HTTP/1.1 400 Bad Request\r\n" in head, (case.name, answer)
            assert json.loads(body)["error"]["code"] == "bad_http", case.name
            assert b"x-taximeter-entry: " in head, case.name

        await asyncio.gather(*map(send, corpus))
        assert upstream.received == 0
        assert (await http.chat(meter.base_url, chat("gpt-4o-mini"))).status == 200
        scrape = await meter.scrape()
    assert scrape.value("taximeter_requests_total", status="400") == len(corpus)
