"""Thresholds are told once: to real receivers that fail, are slow or die, from a real store."""

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from proxy.budgets import Budget, BudgetBook, PeriodKind, Raise
from proxy.cli.small_http import HttpRequest, SmallHttpServer
from proxy.config import NotifyConfig, Secret
from proxy.jobs import webhook
from proxy.jobs.notify import Notify
from proxy.store import Store
from tests.store.servers import Server

# Far away: what is kept of it must not expire while the test runs, in whatever year that is.
NOW = datetime(2096, 11, 16, 12, tzinfo=UTC)
SECRET = "0123456789abcdef"
USD = 10**9
Answering = Callable[[HttpRequest, asyncio.StreamWriter], Awaitable[None]]


class Receiver(SmallHttpServer):
    """Answers each request as it is told, the last way for ever; remembers all."""

    def __init__(self, *answers: Answering) -> None:
        super().__init__()
        self.answers = list(answers) or [status(204)]
        self.received: list[HttpRequest] = []

    async def answer(self, request: HttpRequest, writer: asyncio.StreamWriter) -> None:
        self.received.append(request)
        await (self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])(request, writer)

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(request.body) for request in self.received]

    @property
    def ids(self) -> list[str]:
        return [request.headers["webhook-id"] for request in self.received]


def status(code: int, *lines: str) -> Answering:
    async def answer(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
        head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {code} x", *lines, "content-length: 0"))
        writer.write(f"{head}\r\n".encode())
        await writer.drain()

    return answer


async def dies(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 20")
    writer.close()


async def sleeps(_: HttpRequest, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="tm-") as path:
        running = Server("valkey", Path(path))
        running.start()
        yield running
        running.kill()


@pytest.fixture
async def store(server: Server) -> AsyncIterator[Store]:
    with server.client() as client:
        client.flushall()
    opened = await Store.open(server.url, writer="notifier", timeout=2)
    yield opened
    await opened.close(0)


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def budget(name: str = "acme", **fields: Any) -> Budget:
    values: dict[str, Any] = {"name": name, "limit": 500 * USD, "period": PeriodKind.MONTH, **fields}
    return Budget(**values)


def spent(server: Server, account: str, usd: str) -> None:
    with server.client() as client:
        client.set(f"{{taximeter}}:committed:{account}", int(Decimal(usd) * USD))
        client.set(f"{{taximeter}}:held:{account}", 0)


def job(store: Store, receiver: SmallHttpServer, *budgets: Budget, now: datetime = NOW, **fields: Any) -> Notify:
    config = NotifyConfig(url=Secret(f"{receiver.url}/T00/xoxb-secret"), **fields)
    return Notify(store, BudgetBook(budgets or [budget()]), config, now=lambda: now, first_pause=0.0)


async def test_a_threshold_is_told_once_with_all_that_is_known(store: Store, server: Server) -> None:
    async with Receiver() as receiver:
        telling = job(store, receiver)
        spent(server, "acme/2096-11", "399.999999999")
        await telling.run()
        assert receiver.received == []

        spent(server, "acme/2096-11", "400")
        for _ in range(3):
            await telling.run()
        await job(store, receiver).run()  # another instance, which knows only the store
    [body] = receiver.bodies
    assert body == {
        "type": "budget.threshold_reached",
        "id": receiver.ids[0],
        "timestamp": "2096-11-16T12:00:00Z",
        "data": {
            "budget": "acme",
            "owner": None,
            "period": "month",
            "period_id": "2096-11",
            "threshold": "0.8",
            "limit_usd": "500",
            "spent_usd": "400",
            "held_usd": "0",
            "on_exceed": "refuse",
            "resets_at": "2096-12-01T00:00:00Z",
            "used_up_at": "2096-11-20T09:00:00Z",
            "text": "Budget acme (2096-11) has reached 80%: $400.00 of $500.00 used. "
            "At this pace it is used up on 2096-11-20 at 09:00 UTC. It resets on 2096-12-01 at 00:00 UTC.",
        },
    }
    assert receiver.received[0].headers["content-type"] == "application/json"
    assert "webhook-signature" not in receiver.received[0].headers


async def test_each_threshold_and_each_owner_is_told(store: Store, server: Server) -> None:
    with server.client() as client:
        client.sadd("{taximeter}:owners:each/2096-11", "acme", "beta")
    for account, usd in (("all/2096-11", "500"), ("each/2096-11/acme", "450"), ("each/2096-11/beta", "1")):
        spent(server, account, usd)
    async with Receiver() as receiver:
        await job(store, receiver, budget("all"), budget("each", per_owner=True), budget("other")).run()
    told = [(body["data"]["budget"], body["data"]["owner"], body["data"]["threshold"]) for body in receiver.bodies]
    assert told == [("all", None, "0.8"), ("all", None, "1"), ("each", "acme", "0.8")]
    assert "Requests are refused." in receiver.bodies[1]["data"]["text"]
    assert len(set(receiver.ids)) == 3


async def test_it_is_repeated_with_the_same_id_until_it_is_accepted(
    store: Store, server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "SECONDS", 0.3)
    spent(server, "acme/2096-11", "400")
    elsewhere = status(302, "location: http://127.0.0.1:1/")
    async with Receiver(status(500), dies, sleeps, elsewhere, status(410), status(200)) as receiver:
        telling = job(store, receiver)
        for _ in range(4):
            await telling.run()
        for _ in range(4):  # the first instance has died; the next one goes on under the same id
            telling = job(store, receiver)
            await telling.run()
    assert len(receiver.ids) == 6
    assert len(set(receiver.ids)) == 1
    assert {body["id"] for body in receiver.bodies} == set(receiver.ids)
    said = caplog.text
    for reason in ("status 500", "no answer: Server", "no answer within 0.3 s", "status 302", "status 410"):
        assert reason in said
    assert "was told of 80% of budget acme" in said
    assert "xoxb" not in said


async def test_a_receiver_that_is_not_there_is_tried_again_after_a_pause(
    store: Store, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    spent(server, "acme/2096-11", "400")
    receiver = Receiver()
    async with receiver:
        pass  # its port is free again
    config = NotifyConfig(url=Secret(f"{receiver.url}/xoxb-secret"))
    telling = Notify(store, BudgetBook([budget()]), config, now=lambda: NOW, first_pause=3600.0)
    for _ in range(3):
        await telling.run()
    assert caplog.text.count("did not accept the news") == 1
    assert "no answer: ClientConnectorError" in caplog.text
    assert "xoxb" not in caplog.text


async def test_when_the_period_is_over_nobody_is_told_of_it_any_more(store: Store, server: Server) -> None:
    spent(server, "acme/2096-11", "400")
    async with Receiver(status(500)) as receiver:
        moment = NOW
        config = NotifyConfig(url=Secret(f"{receiver.url}/x"))
        telling = Notify(store, BudgetBook([budget()]), config, now=lambda: moment, first_pause=0.0)
        await telling.run()
        moment = datetime(2096, 12, 1, tzinfo=UTC)
        await telling.run()
        assert len(receiver.received) == 1
        spent(server, "acme/2096-12", "400")
        await telling.run()
    assert len(set(receiver.ids)) == 2


async def test_a_raised_limit_has_thresholds_of_its_own(store: Store, server: Server) -> None:
    spent(server, "acme/2096-11", "500")
    async with Receiver() as receiver:
        await job(store, receiver).run()
        until = datetime(2096, 11, 17, tzinfo=UTC)
        raised = Raise(budget="acme", owner=None, limit=800 * USD, until=until, who="ann@h", why="night", at=NOW)
        await store.raise_limit(raised, before=500 * USD, now=NOW)
        await job(store, receiver).run()
        spent(server, "acme/2096-11", "700")
        await job(store, receiver).run()
        await job(store, receiver, now=until).run()  # the raise has ended: what was told is not told again
    told = [(body["data"]["limit_usd"], body["data"]["threshold"]) for body in receiver.bodies]
    assert told == [("500", "0.8"), ("500", "1"), ("800", "0.8")]


async def test_only_the_budgets_that_were_asked_for(store: Store, server: Server) -> None:
    for name in ("acme-1", "beta"):
        spent(server, f"{name}/2096-11", "400")
    async with Receiver() as receiver:
        await job(store, receiver, budget("acme-1"), budget("beta"), budgets=("acme-*",)).run()
        await job(store, receiver, budget("beta"), budgets=("acme-*",)).run()
    assert [body["data"]["budget"] for body in receiver.bodies] == ["acme-1"]


async def test_slacks_form_and_the_budgets_own_time_zone(store: Store, server: Server) -> None:
    spent(server, "acme/2096-11", "400")
    async with Receiver() as receiver:
        await job(store, receiver, budget(timezone="Europe/Berlin", on_exceed="alert"), format="slack").run()
    [body] = receiver.bodies
    assert set(body) == {"text"}
    assert body["text"].startswith("Budget acme (2096-11) has reached 80%: $400.00 of $500.00 used.")
    assert "It resets on 2096-12-01 at 00:00 CET." in body["text"]
    assert f"(event {receiver.ids[0]})" in body["text"]


@pytest.mark.parametrize(
    ("secret", "key"),
    [
        (SECRET, SECRET.encode()),
        ("whsec_" + base64.b64encode(b"k" * 24).decode(), b"k" * 24),
        ("whsec_%%%", b"whsec_%%%"),
    ],
)
async def test_the_signature_is_over_id_timestamp_and_body(
    store: Store, server: Server, secret: str, key: bytes
) -> None:
    spent(server, "acme/2096-11", "400")
    async with Receiver() as receiver:
        await job(store, receiver, secret_env="X", secret=Secret(secret)).run()
    [request] = receiver.received
    timestamp = request.headers["webhook-timestamp"]
    assert timestamp == str(int(NOW.timestamp()))
    signed = f"{receiver.ids[0]}.{timestamp}.".encode() + request.body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert request.headers["webhook-signature"] == f"v1,{expected}"


async def test_a_limit_of_zero_has_no_thresholds(store: Store, server: Server) -> None:
    spent(server, "acme/2096-11", "1")
    async with Receiver() as receiver:
        await job(store, receiver, budget(limit=0)).run()
    assert receiver.received == []
