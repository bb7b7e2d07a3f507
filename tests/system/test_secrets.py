"""No key, no webhook and no word of a prompt or an answer is left anywhere: log, metrics, errors, ledger, journal, store."""

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import redis

from proxy.cli.small_http import HttpRequest, http_chunk
from tests.fakes.upstreams import STREAM_HEAD, FakeUpstream, response
from tests.system.client import Answer, client
from tests.system.harness import Start, Taximeter, chat

UPSTREAM_KEY = "sk-upstream-3f7a9c1e5b"
OWN_KEY = "sk-own-8d2b6e4f0a"
AZURE_KEY = "azure-own-1c9e7a5d3b"
UNKNOWN_KEY = "tm-never-made-7b5d3f1a9c"
HOOK = "xoxb-hook-2e8c6a4f0d"
HOOK_SECRET = "hook-secret-5a3c1e9b7d"
PROMPT = "promptmarker-6f4d2b0e8c"
ANSWER = "answermarker-9a7c5e3b1d"
SYSTEM = "systemmarker-0b8d6f4a2c"
TOOL = "toolmarker-4c2e0a8d6f"

BUDGETS = [
    {"name": "all", "limit_usd": "100", "period": "month", "alert_at": [0.000001]},
    {"name": "tiny", "limit_usd": "0.000001", "period": "total", "owner": "broke"},
]
USAGE = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}


def chunk(text: str) -> bytes:
    event = {"id": "c", "model": "gpt-4o-mini-2024-07-18", "choices": [{"index": 0, "delta": {"content": text}}]}
    return http_chunk(f"data: {json.dumps(event)}\n\n".encode())


async def behave(request: HttpRequest, writer: asyncio.StreamWriter) -> None:
    """As the model's name says."""
    body = json.loads(request.body or b"{}")
    model = body.get("model", "")
    if body.get("stream"):
        writer.write(STREAM_HEAD + chunk(ANSWER) * 3)
        await writer.drain()
        if model.startswith("breaks"):
            writer.transport.abort()
            return
        await asyncio.sleep(3600)
    if model.startswith("fails"):
        error = {"error": {"message": f"invalid: {PROMPT}", "type": "server_error", "code": None, "param": None}}
        writer.write(response("500 Internal Server Error", json.dumps(error).encode()))
    elif model.startswith("garbage"):
        writer.write(response("200 OK", f'{{"id": "{ANSWER}", "model": '.encode()))
    elif model.startswith("hangs up"):
        writer.transport.abort()
    else:
        message = {"role": "assistant", "content": ANSWER}
        reply: dict[str, Any] = {
            "id": "c",
            "model": "gpt-4o-mini-2024-07-18",
            "choices": [{"index": 0, "message": message}],
        }
        if not model.startswith("silent"):
            reply["usage"] = USAGE
        writer.write(response("200 OK", json.dumps(reply).encode()))
    await writer.drain()


def body_of(model: str, **more: Any) -> dict[str, Any]:
    body = chat(model, PROMPT, max_tokens=20, **more)
    body["messages"].insert(0, {"role": "system", "content": SYSTEM})
    function = {"name": "look", "description": TOOL, "parameters": {"type": "object", "properties": {}}}
    return body | {"tools": [{"type": "function", "function": function}], "user": PROMPT}


def dump(url: str) -> bytes:
    """Every key of the store with all that is in it."""
    found: list[object] = []
    with redis.Redis.from_url(url) as store:
        for name in store.scan_iter(count=1000):
            kind = store.type(name)
            read: Any = {
                b"string": store.get,
                b"hash": store.hgetall,
                b"set": store.smembers,
                b"zset": lambda name: store.zrange(name, 0, -1),
                b"stream": store.xrange,
            }[kind]
            found += [name, read(name)]
    return repr(found).encode()


def files_below(directory: Path) -> Iterator[tuple[Path, bytes]]:
    for path in directory.rglob("*"):
        if path.is_file():
            yield path, path.read_bytes()


@pytest.mark.slow
async def test_nothing_secret_is_left_anywhere(start: Start, tmp_path: Path) -> None:
    env = {"OPENAI_API_KEY": UPSTREAM_KEY, "HOOK_SECRET": HOOK_SECRET}
    places: dict[str, bytes] = {}
    async with FakeUpstream(behave) as upstream:
        notify = [{"url": f"{upstream.url}/{HOOK}", "secret_env": "HOOK_SECRET"}, {"url": f"http://127.0.0.1:1/{HOOK}"}]
        async with (
            start(upstream.url, env=env, workers=2, budget=BUDGETS, notify=notify) as meter,
            client() as http,
            aiohttp.ClientSession() as session,
        ):
            keys = [(await meter.cli("keys", "create", "--owner", owner)).stdout.strip() for owner in ("acme", "broke")]
            limited = await meter.cli("keys", "create", "--owner", "acme", "--model", "gpt-4.1")
            keys.append(limited.stdout.strip())
            answers: list[Answer] = []

            async def ask(key: str, model: str, **more: Any) -> None:
                headers = {"authorization": f"Bearer {key}", "x-client-request-id": "r1"}
                answers.append(await http.chat(meter.base_url, body_of(model, **more), headers=headers))

            for key in (*keys, OWN_KEY, UNKNOWN_KEY):
                for model in ("gpt-4o-mini", "fails", "garbage", "hangs up", "silent", "unheard-of"):
                    await ask(key, model)
                await ask(key, "breaks", stream=True)
            await http.chat(meter.base_url, body_of("gpt-4o-mini"), headers={"api-key": AZURE_KEY})
            answers.append(await http.chat(meter.base_url, b'{"model": "gpt-4o", "' + PROMPT.encode()))
            for path in ("files", f"nowhere?key={OWN_KEY}", "moderations"):
                headers = {"authorization": f"Bearer {keys[0]}"}
                answers.append(
                    await http.send("POST", f"{meter.base_url}/{path}", body=PROMPT.encode(), headers=headers)
                )
            await meter.cli("keys", "revoke", keys[1])
            await meter.cli("budgets", "raise", "all", "--to", "200", "--until", "1h", "--why", "test")
            good = meter.config.read_text()
            meter.config.write_text(good + f'\nurl = "{HOOK}"\n')
            places["a wrong configuration"] = (await meter.cli("budgets", "reload")).stderr.encode()
            meter.config.write_text(good)
            # Streams that are under way when a worker, and then everything, is killed: what is left is the journal.
            url = f"{meter.base_url}/chat/completions"
            headers = {"authorization": f"Bearer {keys[0]}"}
            streams = []
            for round_ in range(2):
                for _ in range(6):
                    stream = await session.post(url, json=body_of("gpt-4o-mini", stream=True), headers=headers)
                    streams.append(stream)
                    await stream.content.readany()
                if round_ == 0:
                    os.kill(meter.workers()[0], signal.SIGKILL)
                    await asyncio.sleep(2)
            places["metrics"] = (await meter.scrape()).text.encode()
            for words in (
                ("report", "--json"),
                ("ledger", "export", "--format", "jsonl"),
                ("keys", "list"),
                ("budgets",),
            ):
                done = await meter.cli(*words)
                assert done.returncode == 0, done
                places[" ".join(words)] = (done.stdout + done.stderr).encode()
            socket = next(meter.data_dir.glob("store.server"), None)
            assert socket is not None
            places["the store"] = dump(f"unix://{store_socket(meter)}")
            places["errors"] = b"".join(
                answer.body for answer in answers if answer.status >= 400 and b"invalid: " not in answer.body
            )
            for pid in meter.workers():
                os.kill(pid, signal.SIGKILL)
            await meter.kill()
            for stream in streams:
                stream.close()  # else the collector warns of it, within whichever test runs by then
            places["the log"] = meter.log_file.read_bytes()
            journals = list(meter.data_dir.glob("journal/*/*.seg"))
            places |= {str(path): data for path, data in files_below(meter.data_dir)}
    assert journals, "streams were under way: there must be a journal"
    secrets = [*keys, OWN_KEY, AZURE_KEY, UNKNOWN_KEY, UPSTREAM_KEY, HOOK, HOOK_SECRET, PROMPT, ANSWER, SYSTEM, TOOL]
    assert all(len(secret) > 15 for secret in secrets)
    leaked = [(place, secret) for place, data in places.items() for secret in secrets if secret.encode() in data]
    assert leaked == []
    assert b"acme" in places["the store"]  # it was looked at in earnest
    assert b"acme" in places["metrics"]


def store_socket(meter: Taximeter) -> str:
    """Where the embedded store listens: its lock file says it."""
    text = (meter.data_dir / "store.server").read_text()
    return next(word for word in text.split() if word.startswith("/"))
