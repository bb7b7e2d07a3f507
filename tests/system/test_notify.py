"""A threshold is told once, however many workers and proxies see it."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from proxy.cli.demo_upstream import ScriptedUpstream
from proxy.cli.small_http import HttpRequest, SmallHttpServer
from tests.system.client import client
from tests.system.harness import Redis7, chat, taximeter

SECRET = "a-secret-of-the-webhook"


class Receiver(SmallHttpServer):
    def __init__(self) -> None:
        super().__init__()
        self.received: list[HttpRequest] = []

    async def answer(self, request: HttpRequest, writer: asyncio.StreamWriter) -> None:
        self.received.append(request)
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()


@pytest.mark.slow
async def test_two_proxies_tell_it_once(tmp_path: Path, upstream: ScriptedUpstream, redis7: Redis7) -> None:
    async with Receiver() as receiver:
        settings: dict[str, Any] = {
            "redis_url": redis7.url,
            "workers": 2,
            "budget": [
                {"name": "all", "limit_usd": "0.0001", "period": "month", "alert_at": [0.5], "on_exceed": "alert"}
            ],
            "notify": [{"url": f"{receiver.url}/T00/xoxb-secret", "secret_env": "HOOK_SECRET"}],
            "env": {"HOOK_SECRET": SECRET},
        }
        async with (
            taximeter(tmp_path / "one", upstream.url, **settings) as one,
            taximeter(tmp_path / "two", upstream.url, **settings) as two,
            client() as http,
        ):
            for meter in (one, two) * 4:
                answer = await http.chat(meter.base_url, chat("gpt-4o", max_tokens=100))
                assert answer.status == 200
            await one.report(requests=8)
            deadline = time.monotonic() + 30
            while not receiver.received:
                assert time.monotonic() < deadline, one.log() + two.log()
                await asyncio.sleep(0.1)
            await asyncio.sleep(6)  # longer than either looks again
            logs = one.log() + two.log()
    [request] = receiver.received
    assert json.loads(request.body)["data"]["budget"] == "all"
    assert request.headers["webhook-signature"].startswith("v1,")
    assert logs.count("was told of 50% of budget all") == 1
    for secret in ("xoxb-secret", SECRET):
        assert secret not in logs
