"""Upstreams, bodies and configurations that are wrong: the contract's answer or one clear line, and what was used counts."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from proxy.cli.demo_upstream import ScriptedUpstream
from tests.fakes import upstreams as fakes
from tests.system.client import Answer, Client, client
from tests.system.harness import (
    FINE_TUNED,
    Start,
    Taximeter,
    chat,
    free_port,
    missing_program,
    one_line,
    prepare,
    run_cli,
    running_redis7,
)
from tests.system.ops import Scrape
from tests.system.prices import cost_of, cost_of_all

BUDGET: dict[str, Any] = {"name": "all", "limit_usd": "100", "period": "month"}
MINI = "gpt-4o-mini"
WHOLE_AND_STREAMED: tuple[dict[str, Any], ...] = ({}, {"stream": True})


async def nothing_held(meter: Taximeter) -> Scrape:
    """A scrape after everything was settled: no money is held any more."""
    return await meter.scrape_until(
        lambda s: s.value("taximeter_budget_held_dollars") == 0 and not s.value("taximeter_spool_entries")
    )


def completion(output: int) -> bytes:
    usage = {"prompt_tokens": 100, "completion_tokens": output, "total_tokens": 100 + output}
    return json.dumps({"id": "chatcmpl-1", "model": "gpt-4o-mini-2024-07-18", "choices": [], "usage": usage}).encode()


USED_LITTLE, USED_MUCH = completion(5), completion(100_000)

# --- upstreams ---


async def test_nothing_listens(start: Start) -> None:
    async with start(f"http://127.0.0.1:{free_port()}/v1", budget=[BUDGET]) as meter, client() as http:
        answer = await http.chat(meter.base_url, chat(MINI))
        assert (answer.status, answer.code) == (502, "upstream_unreachable")
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        assert answer.header("x-taximeter-entry")
        listed = await http.send("GET", f"{meter.base_url}/models")
        assert (listed.status, listed.code) == (502, "upstream_unreachable")
        scrape = await nothing_held(meter)
        report = await meter.json("report")
    assert scrape.value("taximeter_requests_total", status="502") == 2
    assert scrape.value("taximeter_budget_spent_dollars") == 0
    # Never sent: no entry at all.
    assert report["total"]["requests"] == 0


async def test_upstream_resets(start: Start) -> None:
    async with (
        fakes.FakeUpstream(fakes.resets) as upstream,
        start(upstream.url, budget=[BUDGET]) as meter,
        client() as http,
    ):
        answer = await http.chat(meter.base_url, chat(MINI, "mile " * 100))
        assert (answer.status, answer.code) == (502, "upstream_unreachable")
        assert len(upstream.received) == 1
        scrape = await nothing_held(meter)
        report = await meter.report(requests=1)
    # Sent, and never a status: it may have been billed, so its prompt is presumed.
    assert scrape.value("taximeter_presumed_requests_total") == 1
    assert (scrape.value("taximeter_presumed_cost_dollars_total") or 0) > 0
    assert report["total"]["requests"] == 1
    assert report["total"]["cost_nanos"] > 0


@pytest.mark.parametrize("status", ["200 OK", "502 Bad Gateway"])
async def test_upstream_answers_html(start: Start, status: str) -> None:
    page = b"<html><body><h1>Maintenance</h1></body></html>\n"
    async with (
        fakes.FakeUpstream(fakes.says(fakes.response(status, page, "text/html; charset=utf-8"))) as upstream,
        start(upstream.url, budget=[BUDGET]) as meter,
        client() as http,
    ):
        answers = [await http.chat(meter.base_url, chat(MINI, **more)) for more in WHOLE_AND_STREAMED]
        scrape = await nothing_held(meter)
    for answer in answers:
        assert answer.status == int(status[:3])
        assert answer.body == page
        assert answer.header("content-type") == "text/html; charset=utf-8"
        assert not answer.broken
    assert len(upstream.received) == 2
    assert scrape.value("taximeter_requests_total", status=status[:3]) == 2
    if status.startswith("502"):
        assert scrape.value("taximeter_budget_spent_dollars") == 0


@pytest.mark.parametrize("body", [b"", b'{"error": {"message": "The server had an error", "type": "server_error"}}'])
async def test_upstream_answers_500(start: Start, body: bytes) -> None:
    async with (
        fakes.FakeUpstream(fakes.says(fakes.response("500 Internal Server Error", body))) as upstream,
        start(upstream.url, budget=[BUDGET]) as meter,
        client() as http,
    ):
        answers = [await http.chat(meter.base_url, chat(MINI, **more)) for more in WHOLE_AND_STREAMED]
        scrape = await nothing_held(meter)
        report = await meter.report(requests=2)
    assert [(answer.status, answer.body, answer.broken) for answer in answers] == [(500, body, False)] * 2
    # Taximeter does not try again: that is for the client to decide.
    assert len(upstream.received) == 2
    assert scrape.value("taximeter_requests_total", status="500") == 2
    assert scrape.value("taximeter_budget_spent_dollars") == 0
    assert report["total"]["cost_nanos"] == 0


@pytest.mark.parametrize("asks_usage", [True, False])
async def test_upstream_stops_in_the_middle_of_a_stream(start: Start, asks_usage: bool) -> None:
    more: dict[str, Any] = {"stream_options": {"include_usage": True}} if asks_usage else {}
    async with (
        fakes.FakeUpstream(fakes.breaks_off_stream) as upstream,
        start(upstream.url, budget=[BUDGET]) as meter,
        client() as http,
    ):
        answer = await http.chat(meter.base_url, chat(MINI, stream=True, **more))
        scrape = await nothing_held(meter)
        report = await meter.report(requests=1)
    assert answer.status == 200
    assert answer.broken, "a stream that broke off must not look whole"
    assert answer.body == fakes.CHUNK * 3
    assert len(upstream.received) == 1
    assert scrape.value("taximeter_estimated_requests_total") == 1
    [row] = report["rows"]
    assert row["model"] == "gpt-4o-mini-2024-07-18"
    assert row["cost_nanos"] > 0
    assert 3 <= row["tokens"]["output"] <= 60
    assert scrape.value("taximeter_budget_spent_dollars") == pytest.approx(row["cost_nanos"] / 1e9)


async def test_upstream_stops_in_the_middle_of_a_whole_reply(start: Start) -> None:
    async with (
        fakes.FakeUpstream(fakes.breaks_off_whole) as upstream,
        start(upstream.url, budget=[BUDGET]) as meter,
        client() as http,
    ):
        answer = await http.chat(meter.base_url, chat(MINI))
        scrape = await nothing_held(meter)
        report = await meter.report(requests=1)
    assert answer.status == 200
    assert answer.broken
    assert len(upstream.received) == 1
    assert scrape.value("taximeter_estimated_requests_total") == 1
    assert report["total"]["cost_nanos"] > 0


async def test_upstream_never_answers(start: Start) -> None:
    async with (
        fakes.FakeUpstream(fakes.never_answers) as upstream,
        start(upstream.url, budget=[BUDGET], upstream_timeout_seconds=1) as meter,
        client() as http,
    ):
        answer = await http.chat(meter.base_url, chat(MINI, "mile " * 100))
        assert answer.status == 504
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        assert len(upstream.received) == 1
        scrape = await nothing_held(meter)
        report = await meter.report(requests=1)
    assert scrape.value("taximeter_requests_total", status="504") == 1
    assert scrape.value("taximeter_presumed_requests_total") == 1
    assert report["total"]["cost_nanos"] > 0


async def test_upstream_falls_silent_in_a_stream(start: Start) -> None:
    async with (
        fakes.FakeUpstream(fakes.falls_silent) as upstream,
        start(upstream.url, budget=[BUDGET], upstream_timeout_seconds=1) as meter,
        client() as http,
    ):
        async with asyncio.timeout(10):
            answer = await http.chat(meter.base_url, chat(MINI, stream=True))
        scrape = await nothing_held(meter)
    assert answer.broken
    assert answer.body == fakes.CHUNK * 2
    assert scrape.value("taximeter_estimated_requests_total") == 1
    assert (scrape.value("taximeter_budget_spent_dollars") or 0) > 0


async def test_upstream_closes_idle_connections(start: Start) -> None:
    """A request that meets a connection as it ends is sent once more, on a new one; the client does not notice."""
    reply = fakes.response("200 OK", USED_LITTLE)
    async with (
        fakes.ClosesWhenIdle(fakes.says(reply)) as upstream,
        start(upstream.url, budget=[BUDGET]) as meter,
        client() as http,
    ):
        statuses = [(await http.chat(meter.base_url, chat(MINI))).status for _ in range(50)]
        await nothing_held(meter)
        report = await meter.report(requests=50)
    assert statuses == [200] * 50
    assert len(upstream.received) == upstream.closed == 50
    assert report["total"]["tokens"]["output"] == 50 * 5


async def test_a_request_that_was_read_is_not_sent_again(start: Start) -> None:
    """It may have been billed: it is presumed, and the client is told to decide."""
    reply = fakes.response("200 OK", USED_LITTLE)
    async with (
        fakes.OncePerConnection(fakes.says(reply)) as upstream,
        start(upstream.url, budget=[BUDGET]) as meter,
        client() as http,
    ):
        statuses = [(await http.chat(meter.base_url, chat(MINI))).status for _ in range(10)]
        await nothing_held(meter)
        report = await meter.report(requests=10)
        scrape = await meter.scrape()
    assert statuses == [200, 502] * 5
    assert (len(upstream.received), upstream.closed) == (5, 5)
    assert report["total"]["requests"] == 10
    assert scrape.value("taximeter_presumed_requests_total") == 5


# --- bodies ---


async def test_a_body_that_is_no_json(start: Start, upstream: ScriptedUpstream) -> None:
    async with start(upstream.url) as meter, client() as http:
        for body in (b'{"model": "gpt-4o-mini", ', b"", b"[]", b"\xff\xfe\x00", b"null", b'"gpt-4o"'):
            answer = await http.chat(meter.base_url, body)
            direct = await http.chat(upstream.url, body)
            assert (answer.status, answer.body) == (direct.status, direct.body), body
            assert answer.status == 400
        report = await meter.json("report")
    assert report["total"]["cost_nanos"] in (0, None)


async def test_a_key_twice(start: Start, upstream: ScriptedUpstream) -> None:
    body = (
        b'{"model": "gpt-4o", "stream": true, "model": "gpt-4o-mini", "stream": false, "max_tokens": 500000,'
        b' "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}'
    )
    async with start(upstream.url, budget=[BUDGET]) as meter, client() as http:
        answer = await http.chat(meter.base_url, body)
        report = await meter.report(requests=1)
    assert answer.status == 200
    assert answer.json()["model"] == "gpt-4o-mini-2024-07-18"
    assert report["total"]["cost_nanos"] == cost_of(upstream.served[0])


async def test_stream_options_twice(start: Start, upstream: ScriptedUpstream) -> None:
    body = (
        b'{"stream_options": {"include_usage": true}, "model": "gpt-4o-mini", "stream": true,'
        b' "messages": [{"role": "user", "content": "hi"}], "stream_options": {"include_usage": false}}'
    )
    async with start(upstream.url) as meter, client() as http:
        answer = await http.chat(meter.base_url, body)
        report = await meter.report(requests=1)
    assert b'"usage"' not in answer.body
    assert report["total"]["cost_nanos"] > 0


async def test_negative_max_tokens(start: Start, upstream: ScriptedUpstream) -> None:
    async with start(upstream.url, budget=[BUDGET]) as meter, client() as http:
        answer = await http.chat(meter.base_url, chat(MINI, max_tokens=-1))
        assert answer.status == 400
        assert answer.json()["error"]["param"] == "max_tokens"
        for odd in (10**30, "many", 1.5, None, True, [1]):
            odd_answer = await http.chat(meter.base_url, chat(MINI, max_tokens=odd))
            assert odd_answer.status in (200, 429), (odd, odd_answer)
        scrape = await nothing_held(meter)
        report = await meter.report(requests=len(upstream.served))
    assert scrape.value("taximeter_budget_held_dollars") == 0
    assert report["total"]["cost_nanos"] == cost_of_all(upstream.served)


async def test_a_body_of_20_mb(start: Start, upstream: ScriptedUpstream) -> None:
    text = "mile " * 4_000_000
    body = json.dumps(chat(MINI, text)).encode()
    assert len(body) > 20_000_000
    async with start(upstream.url, budget=[BUDGET]) as meter, client() as http:
        answer = await http.chat(meter.base_url, body)
        assert answer.status == 200, answer
        streamed = await http.chat(meter.base_url, json.dumps(chat(MINI, text, stream=True)).encode())
        assert streamed.status == 200
        report = await meter.report(requests=2)
    assert upstream.served[0].prompt_tokens > 4_000_000
    assert report["total"]["cost_nanos"] == cost_of_all(upstream.served)


async def test_a_body_above_the_limit(start: Start, upstream: ScriptedUpstream) -> None:
    async with start(upstream.url, max_body_bytes=100_000) as meter, client() as http:
        answer = await http.chat(meter.base_url, chat(MINI, "mile " * 50_000))
        assert answer.status == 413
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        assert upstream.received == 0
        assert (await http.chat(meter.base_url, chat(MINI))).status == 200


NO_PROPER_HTTP = (
    b"GET /v1/models HTTP/1.1\r\nhost: x\r\nx-big: " + b"a" * 100_000 + b"\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
    b"hello there\r\n\r\n",
)


async def test_clients_that_speak_no_proper_http(start: Start, upstream: ScriptedUpstream) -> None:
    """They are turned away, nothing goes upstream, and they cannot fill the log with tracebacks."""
    async with start(upstream.url) as meter:
        name, _, port = meter.url.removeprefix("http://").partition(":")
        before = len(meter.log().splitlines())
        for sent in NO_PROPER_HTTP * 3:
            reader, writer = await asyncio.open_connection(name, int(port))
            writer.write(sent)
            async with asyncio.timeout(5):
                answer = await reader.read()
            assert b" 400 " in answer, sent[:60]
            writer.close()
        assert len(meter.log().splitlines()) <= before + len(NO_PROPER_HTTP) * 3
    assert upstream.received == 0


# --- models without a card ---

HOMEGROWN = "acme-homegrown-1"


async def test_a_model_without_a_card_is_served_and_counted(start: Start) -> None:
    alert = BUDGET | {"on_exceed": "alert"}
    async with (
        ScriptedUpstream(extra_models=frozenset({HOMEGROWN})) as upstream,
        start(upstream.url, budget=[alert]) as meter,
        client() as http,
    ):
        answer = await http.chat(meter.base_url, chat(HOMEGROWN))
        scrape = await meter.scrape_until(lambda s: bool(s.value("taximeter_unpriced_requests_total")))
        report = await meter.report(requests=1)
    assert answer.status == 200
    assert answer.header("x-taximeter-entry")
    assert answer.header("x-taximeter-cost-usd") is None
    assert scrape.value("taximeter_unpriced_requests_total", model=HOMEGROWN) == 1
    assert scrape.value("taximeter_requests_total", model="other", status="200") == 1
    assert not scrape.value("taximeter_cost_dollars_total")
    [row] = report["rows"]
    assert row["model"] == HOMEGROWN
    assert row["unpriced_requests"] == 1
    assert row["cost_usd"] is None
    assert row["cost_nanos"] is None
    assert row["tokens"]["output"] == upstream.served[0].completion_tokens


@pytest.mark.parametrize("settings", [{"unpriced": "refuse"}, {"budget": [BUDGET]}], ids=["configured", "budget"])
async def test_a_model_without_a_card_is_refused(start: Start, settings: dict[str, Any]) -> None:
    async with (
        ScriptedUpstream(extra_models=frozenset({HOMEGROWN})) as upstream,
        start(upstream.url, **settings) as meter,
        client() as http,
    ):
        answer = await http.chat(meter.base_url, chat(HOMEGROWN))
        assert (answer.status, answer.code) == (403, "model_not_priced")
        assert HOMEGROWN in answer.json()["error"]["message"]
        assert upstream.received == 0
        assert (await http.chat(meter.base_url, chat(FINE_TUNED))).status == 200


# --- exhausted budgets ---


async def test_an_exhausted_budget_closes_unmetered_posts_and_no_gets(start: Start) -> None:
    async with (
        fakes.FakeUpstream(fakes.says(fakes.response("200 OK", USED_MUCH))) as upstream,
        start(upstream.url, budget=[BUDGET | {"limit_usd": "0.01"}]) as meter,
        client() as http,
    ):
        before = await http.send("POST", f"{meter.base_url}/audio/speech", body=b"{}")
        assert before.status == 200
        # Admitted within the limit; the upstream then used more than it was allowed to.
        assert (await http.chat(meter.base_url, chat(MINI, max_tokens=10))).status == 200
        await nothing_held(meter)
        again = await http.chat(meter.base_url, chat(MINI, max_tokens=10))
        other = await http.send("POST", f"{meter.base_url}/audio/speech", body=b"{}")
        listed = await http.send("GET", f"{meter.base_url}/models")
    for refused in (again, other):
        assert (refused.status, refused.code) == (429, "budget_exceeded")
        assert refused.header("x-should-retry") == "false"
    assert listed.status == 200
    assert len(upstream.received) == 3


# --- configuration and processes ---


async def serve_fails(directory: Path, upstream: str, **settings: Any) -> str:
    """The one line with which `serve` refuses to start. It must exit 2."""
    prepared = prepare(directory, upstream, **settings)
    done = await run_cli("serve", environ=prepared.environ, cwd=directory, seconds=30)
    assert done.returncode == 2, f"exit {done.returncode}\n{done.stdout}{done.stderr}"
    return one_line(done.stderr)


async def test_a_typo_in_the_configuration(tmp_path: Path) -> None:
    line = await serve_fails(tmp_path / "a", "http://127.0.0.1:1/v1", unprised="refuse")
    assert '"unprised"' in line
    assert '"unpriced"' in line
    assert "taximeter.toml" in line
    line = await serve_fails(tmp_path / "b", "http://127.0.0.1:1/v1", budget=[BUDGET | {"limt_usd": "5"}])
    assert "limt_usd" in line
    assert "limit_usd" in line


async def test_a_configuration_that_is_no_toml(tmp_path: Path) -> None:
    prepared = prepare(tmp_path / "a", "http://127.0.0.1:1/v1")
    prepared.config.write_text("listen = \n")
    done = await run_cli("serve", environ=prepared.environ, cwd=tmp_path)
    assert done.returncode == 2
    assert "taximeter.toml" in one_line(done.stderr)


@pytest.mark.parametrize("key", ["listen", "ops_listen"])
async def test_a_port_that_is_taken(tmp_path: Path, upstream: ScriptedUpstream, key: str) -> None:
    taken = f"127.0.0.1:{upstream.port}"
    line = await serve_fails(tmp_path / "a", "http://127.0.0.1:1/v1", **{key: taken})
    assert taken in line


async def test_a_second_serve_on_the_same_data_directory(
    start: Start, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async with start(upstream.url) as meter, client() as http:
        line = await serve_fails(tmp_path / "second", upstream.url, data_dir=str(meter.data_dir))
        assert str(meter.data_dir) in line
        # The first one did not notice.
        assert (await http.chat(meter.base_url, chat(MINI))).status == 200
        report = await meter.report(requests=1)
    assert report["total"]["requests"] == 1


async def test_a_redis_that_is_not_there_yet(start: Start, upstream: ScriptedUpstream, tmp_path: Path) -> None:
    if reason := missing_program("redis-server"):
        pytest.skip(reason)
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    async with start(upstream.url, redis_url=url, budget=[BUDGET]) as meter, client() as http:
        answer = await http.chat(meter.base_url, chat(MINI))
        assert answer.status == 200
        away = await meter.scrape()
        assert away.value("taximeter_store_up") == 0
        assert away.value("taximeter_budget_spent_dollars") is None
        failed = await meter.cli("report")
        assert failed.returncode == 1
        assert str(port) in one_line(failed.stderr)
        async with running_redis7(tmp_path / "redis", port):
            report = await meter.report(requests=1)
            assert report["total"]["cost_nanos"] == cost_of(upstream.served[0])
            await meter.stop()


async def test_a_redis_that_is_not_there_and_a_strict_budget(start: Start, upstream: ScriptedUpstream) -> None:
    strict = BUDGET | {"on_store_loss": "refuse"}
    url = f"redis://127.0.0.1:{free_port()}/0"
    async with start(upstream.url, ready=False, redis_url=url, budget=[strict]) as meter, client() as http:
        answer = await until_serving(http, meter)
        assert (answer.status, answer.code) == (503, "store_unavailable")
        assert answer.header("x-should-retry") == "true"
        assert upstream.received == 0


async def until_serving(http: Client, meter: Taximeter) -> Answer:
    for _ in range(100):
        try:
            return await http.chat(meter.base_url, chat(MINI))
        except OSError:
            await asyncio.sleep(0.1)
    raise TimeoutError(meter.log())
