"""Azure's own paths: forwarded to the upstream's origin, metered by the same readers, priced by the deployment's model."""

import json
from typing import Any

import openai
import pytest

from tests.fakes.upstreams import Behaviour, FakeUpstream, response, says
from tests.system.client import client
from tests.system.harness import Start, chat

pytestmark = pytest.mark.slow  # a process a test

USAGE = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}
DEPLOYED = "gpt-4o-mini-2024-07-18.ft-0123456789abcdef0123456789abcdef"
# Azure: a fine-tune's tokens cost what its base costs, $0.15 and $0.60 a million.
NANOS = 450_000


def answers(model: str | None, **more: Any) -> Behaviour:
    body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "choices": [], "usage": USAGE, **more}
    return says(response("200 OK", json.dumps(body | ({"model": model} if model else {})).encode()))


async def test_the_azure_client_with_a_taximeter_key(start: Start) -> None:
    """The real client; the key in its api-key header is ours, and the upstream gets its own in the same place."""
    async with (
        FakeUpstream(answers("gpt-4o-mini-2024-07-18", data=[{"index": 0, "embedding": [0.5]}])) as upstream,
        start(
            f"http://127.0.0.1:{upstream.port}",
            env={"OPENAI_API_KEY": "azure-secret"},
            provider="azure",
            models={"acme-classifier": DEPLOYED},
        ) as meter,
    ):
        key = (await meter.cli("keys", "create", "--owner", "acme")).stdout.strip()
        async with openai.AsyncAzureOpenAI(
            azure_endpoint=meter.url, api_key=key, api_version="2024-10-21", max_retries=0
        ) as sdk:
            raw = await sdk.chat.completions.with_raw_response.create(
                model="acme-classifier", messages=[{"role": "user", "content": "far?"}]
            )
            await sdk.completions.create(model="acme-classifier", prompt="far?")
            await sdk.embeddings.create(model="acme-classifier", input="far?")
            with pytest.raises(openai.PermissionDeniedError):
                await sdk.files.list()
        report = await meter.report("--by", "owner,model", requests=3)
    assert raw.headers["x-taximeter-cost-usd"] == "0.00045"
    assert [request.target for request in upstream.received] == [
        f"/openai/deployments/acme-classifier/{path}?api-version=2024-10-21"
        for path in ("chat/completions", "completions", "embeddings")
    ]
    assert {request.headers["api-key"] for request in upstream.received} == {"azure-secret"}
    [row] = report["rows"]
    assert (row["owner"], row["model"], row["unpriced_requests"]) == ("acme", DEPLOYED, 0)
    # Of the embeddings only the prompt: they write nothing.
    assert report["total"]["cost_nanos"] == 2 * NANOS + 150_000


@pytest.mark.parametrize(
    ("served", "asked", "models", "priced"),
    [
        ("gpt-4o-mini-2024-07-18", None, {}, True),
        (None, None, {"dep": DEPLOYED}, True),
        ("ftchkpt-0123456789abcdef0123456789abcdef", None, {"dep": DEPLOYED}, True),
        # The deployment decides, whatever the body says beside it.
        ("gpt-4o-mini-2024-07-18", "gpt-4o", {"dep": DEPLOYED}, True),
        (None, "gpt-4o-mini", {}, True),
        # Nobody says what it is: no price, rather than a wrong one.
        (None, None, {}, False),
        ("ftchkpt-0123456789abcdef0123456789abcdef", None, {}, False),
    ],
)
async def test_what_a_deployment_costs(
    start: Start, served: str | None, asked: str | None, models: dict[str, str], priced: bool
) -> None:
    async with (
        FakeUpstream(answers(served)) as upstream,
        start(f"http://127.0.0.1:{upstream.port}", provider="azure", models=models) as meter,
        client() as http,
    ):
        body = chat(asked or "")
        if asked is None:
            del body["model"]
        answer = await http.send(
            "POST", f"{meter.url}/openai/deployments/dep/chat/completions?api-version=1", body=json.dumps(body).encode()
        )
        report = await meter.report(requests=1)
    assert answer.status == 200
    assert report["total"]["cost_nanos"] == (NANOS if priced else None)
    assert report["total"]["unpriced_requests"] == (0 if priced else 1)
    assert report["total"]["tokens"] == {"input": 1000, "output": 500}


async def test_the_v1_paths_and_responses_with_a_version(start: Start) -> None:
    """/openai/… ignores the base's path; our /v1 takes it."""
    told = {"input_tokens": 1000, "output_tokens": 500}
    body = {"id": "resp_1", "object": "response", "status": "completed", "model": "gpt-4o-mini", "usage": told}
    async with (
        FakeUpstream(says(response("200 OK", json.dumps(body).encode()))) as upstream,
        start(f"http://127.0.0.1:{upstream.port}/openai/v1", provider="azure") as meter,
        client() as http,
    ):
        for path in ("/openai/v1/responses", "/openai/responses?api-version=2025-04-01-preview", "/v1/responses"):
            answer = await http.send("POST", f"{meter.url}{path}", body=b'{"model": "dep", "input": "far?"}')
            assert (answer.status, answer.header("x-taximeter-cost-usd")) == (200, "0.00045")
        report = await meter.report(requests=3)
    assert [request.target for request in upstream.received] == [
        "/openai/v1/responses",
        "/openai/responses?api-version=2025-04-01-preview",
        "/openai/v1/responses",
    ]
    assert report["total"]["cost_nanos"] == 3 * NANOS
