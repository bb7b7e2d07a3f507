"""What servers that nobody here wrote did answer: the reading is what a plain parse of their bytes says."""

import json
import re

import pytest

from proxy.metering import Ending
from tests.metering.feeding import DATA, every_split, one_by_one, run

NAMES = sorted(path.stem for path in (DATA / "recordings").glob("*.http"))


def recorded(name: str) -> tuple[int, str, bytes]:
    """(status, content type, body) of a whole HTTP response."""
    head, _, body = (DATA / "recordings" / f"{name}.http").read_bytes().partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines[1:])}
    if headers.get("transfer-encoding") == "chunked":
        body = _dechunked(body)
    return int(lines[0].split()[1]), headers["content-type"], body


def _dechunked(body: bytes) -> bytes:
    parts = []
    while body:
        size, _, body = body.partition(b"\r\n")
        parts.append(body[: int(size, 16)])
        body = body[int(size, 16) + 2 :]
    return b"".join(parts)


def told(body: bytes) -> list[dict[str, object]]:
    texts = re.findall(rb"^data: (\{.*\})$", body, re.MULTILINE) or [body]
    return [json.loads(text) for text in texts]


def test_there_are_recordings() -> None:
    assert NAMES


@pytest.mark.parametrize("name", NAMES)
def test_reading(name: str) -> None:
    status, content_type, body = recorded(name)
    reading, seen = run([body], status=status, content_type=content_type)
    last = told(body)[-1]
    usage = last.get("usage")
    if status != 200:
        assert reading.status == "failed"
    elif not isinstance(usage, dict):
        assert (reading.status, reading.reason, reading.model) == ("estimated", "no_usage", last["model"])
        assert 5 <= reading.usage.output <= 40
    else:
        assert (reading.status, reading.model, reading.upstream_id) == ("reported", last["model"], last["id"])
        assert reading.usage.input + reading.usage.cached_input == usage["prompt_tokens"]
        assert reading.usage.output == usage["completion_tokens"]
    assert seen == body
    for pieces in [one_by_one(body), *list(every_split(body))[::7]]:
        assert run(pieces, status=status, content_type=content_type) == (reading, seen)


@pytest.mark.parametrize("name", [name for name in NAMES if "stream" in name])
def test_cut_off_anywhere(name: str) -> None:
    _, content_type, body = recorded(name)
    whole, _ = run([body], content_type=content_type)
    for length in range(0, len(body), 7):
        reading, _ = run([body[:length]], content_type=content_type, ending=Ending.BROKEN)
        assert reading == whole or reading.status == "estimated"


@pytest.mark.parametrize("server", ["llmock", "aimock"])
def test_hidden_it_is_the_answer_to_who_did_not_ask(server: str) -> None:
    _, content_type, included = recorded(f"{server}-stream-usage")
    _, _, without = recorded(f"{server}-stream")
    shown = run([included], content_type=content_type, hide=True)[1]
    assert _anonymous(shown) == _anonymous(without)
    for pieces in [one_by_one(included), *list(every_split(included))[::7]]:
        assert run(pieces, content_type=content_type, hide=True)[1] == shown


def _anonymous(body: bytes) -> bytes:
    return re.sub(rb'"id":"[^"]*"|"created":\d+', b"-", body)
