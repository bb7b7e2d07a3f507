"""Four rows are metered; everything has a name from a closed set."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.metering import endpoint_of
from proxy.metering.endpoints import _NAMES


@pytest.mark.parametrize(
    "path",
    ["chat/completions", "/chat/completions", "chat/completions/", "chat//completions", "Chat/Completions", "chat%2fcompletions"],
)  # fmt: skip
def test_chat_is_metered_however_it_is_written(path: str) -> None:
    for method in ("POST", "post"):
        endpoint = endpoint_of(method, path)
        assert (endpoint.name, endpoint.metered) == ("chat/completions", True)


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("GET", "chat/completions", "chat/completions"),
        ("POST", "chat/completions/chatcmpl-1", "chat/completions"),
        ("GET", "completions", "completions"),
        ("GET", "responses", "responses"),
        ("GET", "responses/resp_1", "responses"),
        ("POST", "responses/resp_1/cancel", "responses"),
        ("DELETE", "responses/resp_1", "responses"),
        ("GET", "responses/resp_1/input_items", "responses"),
        ("POST", "responses/compact", "responses/compact"),
        ("POST", "embeddings/x", "embeddings"),
        ("GET", "models", "models"),
        ("DELETE", "models/ft:gpt-4o-mini-2024-07-18:acme::abc123", "models"),
        ("POST", "audio/speech", "audio/speech"),
        ("POST", "images/generations", "images"),
        ("POST", "fine_tuning/jobs", "fine_tuning"),
        ("POST", "chat", "other"),
        ("POST", "modelsx", "other"),
        ("POST", "", "other"),
        ("", "", "other"),
        ("POST", "../chat/completions", "other"),
    ],
)
def test_names(method: str, path: str, name: str) -> None:
    endpoint = endpoint_of(method, path)
    assert (endpoint.name, endpoint.metered) == (name, False)


@pytest.mark.parametrize(
    ("path", "on_request", "writes"),
    [("completions", True, True), ("responses", False, True), ("embeddings", False, False), ("chat/completions", True, True)],
)  # fmt: skip
def test_four_are_metered(path: str, on_request: bool, writes: bool) -> None:
    endpoint = endpoint_of("POST", path)
    assert (endpoint.name, endpoint.metered, endpoint.later) == (path, True, None)
    assert (endpoint.usage_on_request, endpoint.writes) == (on_request, writes)


@pytest.mark.parametrize(
    ("method", "path", "is_later"),
    [
        ("GET", "responses/resp_1", True),
        ("get", "Responses/resp_1/", True),
        ("POST", "responses/resp_1/cancel", True),
        ("GET", "responses/resp_1/input_items", False),
        ("DELETE", "responses/resp_1", False),
        ("GET", "responses", False),
        ("GET", "chat/completions/chatcmpl-1", False),
    ],
)
def test_what_may_bring_the_end_of_a_background_response(method: str, path: str, is_later: bool) -> None:
    assert (endpoint_of(method, path).later is not None) == is_later


@given(method=st.text(max_size=5), path=st.text())
def test_names_are_a_closed_set(method: str, path: str) -> None:
    assert endpoint_of(method, path).name in {*_NAMES, "other"}
