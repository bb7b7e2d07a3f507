"""A path becomes a target: what is metered, what a taximeter key may reach, and what goes upstream."""

import pytest

from proxy.metering import endpoint_of
from proxy.server.paths import target_of
from proxy.server.replies import Refused


@pytest.mark.parametrize(
    ("raw", "path", "tail", "at_origin", "deployment"),
    [
        ("/v1/chat/completions?a=1", "chat/completions", "/chat/completions?a=1", False, None),
        ("/v1", "", "", False, None),
        ("/v1/", "", "/", False, None),
        ("/openai/v1/responses?api-version=preview", "responses", "/openai/v1/responses?api-version=preview", True, None),
        ("/openai/v1/responses/resp_1", "responses/resp_1", "/openai/v1/responses/resp_1", True, None),
        ("/openai/responses?api-version=2025-04-01-preview", "responses", "/openai/responses?api-version=2025-04-01-preview", True, None),
        (
            "/openai/deployments/acme-chat/chat/completions?api-version=2024-10-21",
            "chat/completions",
            "/openai/deployments/acme-chat/chat/completions?api-version=2024-10-21",
            True,
            "acme-chat",
        ),
        ("/openai/deployments/a%20b/embeddings", "embeddings", "/openai/deployments/a%20b/embeddings", True, "a b"),
        ("/openai//Deployments/x//completions/", "completions", "/openai//Deployments/x//completions/", True, "x"),
        ("/openai/%64eployments/x/completions", "completions", "/openai/%64eployments/x/completions", True, "x"),
        ("/openai/deployments", "deployments", "/openai/deployments", True, None),
        ("/openai/deployments/x", "deployments/x", "/openai/deployments/x", True, None),
        ("/openai/files", "files", "/openai/files", True, None),
    ],
)  # fmt: skip
def test_targets(raw: str, path: str, tail: str, at_origin: bool, deployment: str | None) -> None:
    found = target_of(raw)
    assert (found.path, found.tail, found.at_origin, found.deployment) == (path, tail, at_origin, deployment)


def test_what_an_upstream_may_decode_is_metered_and_closed_to_taximeter_keys() -> None:
    found = target_of("/openai/deployments%2Fx%2Fchat%2Fcompletions")
    assert endpoint_of("POST", found.unquoted or found.path).metered
    assert found.deployment == "x"
    assert found.path == "deployments%2Fx%2Fchat%2Fcompletions"


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        ("/", 404),
        ("/v1x/models", 404),
        ("/openai", 404),
        ("/openaix/files", 404),
        ("/chat/completions", 404),
        ("/../v1/models", 404),
        ("/v1/../files", 400),
        ("/v1/%2e%2e/files", 400),
        ("/openai/deployments/../files", 400),
        ("/openai/./files", 400),
    ],
)
def test_not_ours(raw: str, status: int) -> None:
    with pytest.raises(Refused) as refused:
        target_of(raw)
    assert refused.value.status == status
