"""A taximeter key is for taximeter alone: however it is presented, it never reaches the upstream."""

import json
import time
from pathlib import Path

import pytest

from tests.fakes.upstreams import FakeUpstream, response, says
from tests.system.client import client
from tests.system.harness import Start, chat

REPLY = response("200 OK", json.dumps({"id": "c", "model": "gpt-4o-mini-2024-07-18", "choices": []}).encode())


@pytest.fixture
def presented() -> list[list[tuple[str, str]]]:
    """Ways to bring a key along; KEY stands for it."""
    return [
        [("authorization", "Bearer KEY")],
        [("authorization", "bearer   KEY")],
        [("authorization", "KEY")],
        [("authorization", "Token KEY")],
        [("api-key", "KEY")],
        [("x-api-key", "KEY")],
        [("authorization", "Bearer sk-own"), ("api-key", "KEY")],
        [("authorization", "Bearer sk-own"), ("x-api-key", "KEY")],
        [("authorization", "Bearer sk-own"), ("authorization", "Bearer KEY")],
        [("authorization", "Bearer sk-own, Bearer KEY")],
    ]


async def test_a_taximeter_key_never_goes_upstream(start: Start, presented: list[list[tuple[str, str]]]) -> None:
    async with (
        FakeUpstream(says(REPLY)) as upstream,
        start(upstream.url, env={"OPENAI_API_KEY": "sk-upstream"}) as meter,
        client() as http,
    ):
        created = await meter.cli("keys", "create", "--owner", "acme")
        key = created.stdout.strip()
        for headers in presented:
            lines = [(name, value.replace("KEY", key)) for name, value in headers]
            body = json.dumps(chat("gpt-4o-mini")).encode()
            for path in ("chat/completions", "models"):
                await http.send("POST", f"{meter.base_url}/{path}", body=body, headers=lines)
    leaked = [request.head for request in upstream.received if key.encode() in request.head]
    assert leaked == []


async def test_what_speaks_for_the_callers_own_account_stays_here(start: Start) -> None:
    async with (
        FakeUpstream(says(REPLY)) as upstream,
        start(upstream.url, env={"OPENAI_API_KEY": "sk-upstream"}) as meter,
        client() as http,
    ):
        key = (await meter.cli("keys", "create", "--owner", "acme")).stdout.strip()
        headers = {"authorization": f"Bearer {key}", "openai-organization": "org-x", "openai-project": "proj-x"}
        answer = await http.chat(meter.base_url, chat("gpt-4o-mini"), headers=headers)
        assert answer.status == 200
        # Files, jobs and the account itself are not open to such a key.
        closed = await http.send("GET", f"{meter.base_url}/files", headers=headers)
        assert closed.status in (403, 404)
        listed = await meter.cli("keys", "list")
        revoked = await meter.cli("keys", "revoke", key)
    [request] = upstream.received
    assert request.headers["authorization"] == "Bearer sk-upstream"
    assert "openai-organization" not in request.headers
    assert "openai-project" not in request.headers
    assert key not in listed.stdout
    assert "acme" in listed.stdout
    assert revoked.returncode in (0, 2)


async def test_a_key_without_an_upstream_key(start: Start) -> None:
    async with FakeUpstream(says(REPLY)) as upstream, start(upstream.url) as meter, client() as http:
        key = (await meter.cli("keys", "create", "--owner", "acme")).stdout.strip()
        headers = {"authorization": f"Bearer {key}"}
        answer = await http.chat(meter.base_url, chat("gpt-4o-mini"), headers=headers)
        assert (answer.status, answer.code) == (503, "upstream_key_missing")
    assert upstream.received == []


async def test_only_taximeter_keys_when_required(start: Start) -> None:
    async with FakeUpstream(says(REPLY)) as upstream, start(upstream.url, require_key=True) as meter, client() as http:
        for headers in ({}, {"authorization": "Bearer sk-own"}, {"authorization": "Bearer tm-unknown"}):
            answer = await http.chat(meter.base_url, chat("gpt-4o-mini"), headers=headers)
            assert (answer.status, answer.code) == (401, "invalid_api_key")
    assert upstream.received == []


async def test_the_upstream_key_in_a_file_is_read_again(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "upstream-key"
    file.write_text("sk-first\n")
    file.chmod(0o644)
    async with (
        FakeUpstream(says(REPLY)) as upstream,
        start(upstream.url, upstream_key_file=str(file)) as meter,
        client() as http,
    ):
        key = (await meter.cli("keys", "create", "--owner", "acme")).stdout.strip()
        headers = {"authorization": f"Bearer {key}"}
        assert (await http.chat(meter.base_url, chat("gpt-4o-mini"), headers=headers)).status == 200
        file.write_text("sk-second\n")
        done = await meter.cli("budgets", "reload")
        assert (done.returncode, done.stdout) == (0, "upstream_key: changed\n")
        assert (await http.chat(meter.base_url, chat("gpt-4o-mini"), headers=headers)).status == 200
        log = meter.log()
    assert [request.headers["authorization"] for request in upstream.received] == [
        "Bearer sk-first",
        "Bearer sk-second",
    ]
    assert f"everybody on this machine can read {file}: chmod o-r it" in log
    assert "sk-second" not in log


async def test_a_key_for_some_models_and_one_that_is_revoked(start: Start) -> None:
    async with (
        FakeUpstream(says(REPLY)) as upstream,
        start(upstream.url, env={"OPENAI_API_KEY": "sk-upstream"}, workers=2) as meter,
        client() as http,
    ):
        key = (await meter.cli("keys", "create", "--owner", "acme", "--model", "gpt-4o*")).stdout.strip()
        headers = {"authorization": f"Bearer {key}"}
        assert (await http.chat(meter.base_url, chat("gpt-4o-mini"), headers=headers)).status == 200
        other = await http.chat(meter.base_url, chat("gpt-4.1"), headers=headers)
        assert (other.status, other.code) == (403, "model_not_allowed")
        unseen = await http.send("POST", f"{meter.base_url}/moderations", body=b"{}", headers=headers)
        assert (unseen.status, unseen.code) == (403, "model_not_allowed")
        assert (await http.send("GET", f"{meter.base_url}/models", headers=headers)).status == 200
        assert len(upstream.received) == 2

        assert (await meter.cli("keys", "revoke", key)).returncode == 0
        deadline = time.monotonic() + 5
        refused = 0
        while refused < 8:  # of both workers
            answer = await http.chat(meter.base_url, chat("gpt-4o-mini"), headers=headers)
            refused = refused + 1 if answer.status == 401 else 0
            assert time.monotonic() < deadline
