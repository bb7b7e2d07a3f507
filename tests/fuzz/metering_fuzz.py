"""Coverage-guided fuzzing of the meter: `make fuzz`, 10 million runs unless RUNS says otherwise.

Any bytes as request and as reply, cut anywhere, whole or streamed, compressed or not, ended in any way. No exception
escapes, no run takes long (-timeout), memory stays bounded (-rss_limit_mb), the client sees the upstream's bytes, how
they were cut changes nothing, and what is reported could have been used.
"""

import sys
from pathlib import Path

import atheris

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

with atheris.instrument_imports(include=["proxy.metering"]):
    from proxy.metering import (
        Ending,
        Endpoint,
        Meter,
        RequestFacts,
        Uncounted,
        ask_for_usage,
        endpoint_of,
        read_request,
    )

from rates.usage import MAX_QUANTITY  # noqa: E402

ENDPOINTS = [
    endpoint_of(*row)
    for row in (
        ("POST", "chat/completions"),
        ("POST", "completions"),
        ("POST", "responses"),
        ("POST", "embeddings"),
        ("GET", "responses/resp_1"),
    )
]
CONTENT_TYPES = ("text/event-stream", "application/json")
ENCODINGS = ("", "", "", "", "", "gzip", "deflate", "br")
STATUSES = (200, 200, 200, 500)
ENDINGS = tuple(Ending)
FACTS = [
    [read_request(endpoint, body) for body in (b'{"model":"m","stream":true}', b'{"model":"m","n":2,"stream":true}')]
    for endpoint in ENDPOINTS
]


def run(data: bytes) -> None:
    """Two bytes say how, two where to cut; the rest is what is answered, or what is asked."""
    if len(data) < 4:
        return
    how, cuts, body = int.from_bytes(data[:2], "big"), data[2:4], data[4:]
    how, endpoint = divmod(how, len(ENDPOINTS))
    how, content_type = divmod(how, len(CONTENT_TYPES))
    how, encoding = divmod(how, len(ENCODINGS))
    how, status = divmod(how, len(STATUSES))
    how, ending = divmod(how, len(ENDINGS))
    two_choices = bool(how & 1)
    row = ENDPOINTS[endpoint]
    if how & 4:
        read(row, body)
        return
    hide = row.usage_on_request and bool(how & 2)

    def metered(pieces: list[bytes]) -> tuple[object, bytes]:
        meter = Meter(row, FACTS[endpoint][two_choices], hide_usage=hide)
        meter.start(STATUSES[status], CONTENT_TYPES[content_type], ENCODINGS[encoding])
        seen = b"".join([meter.feed(piece) for piece in pieces]) + meter.tail()
        reading = meter.finish(ENDINGS[ending])
        assert meter.ends_background in (True, False)
        for quantity in reading.usage.as_dict().values():
            assert 0 < quantity <= 2 * MAX_QUANTITY
        return reading, seen

    whole = metered([body])
    assert hide or whole[1] == body
    if not how & 8:
        if how & 16:
            count(row, FACTS[endpoint][two_choices], CONTENT_TYPES[content_type], body)
        return
    first, second = sorted(place * len(body) // 255 for place in cuts)
    assert metered([body[:first], body[first:second], body[second:]]) == whole


def count(row: Endpoint, facts: RequestFacts, content_type: str, body: bytes) -> None:
    """An estimate, with the body as prompt and as answer."""
    meter = Meter(row, facts, hide_usage=False)
    meter.start(200, content_type, "")
    meter.feed(body)
    meter.tail()
    ended = meter.end(Ending.BROKEN, body)
    if isinstance(ended, Uncounted):
        assert ended.count("gpt-4o").usage.input >= 0


def read(row: Endpoint, body: bytes) -> None:
    facts = read_request(row, body)
    assert facts.n >= 1
    assert facts.prompt_tokens >= 0
    asking = ask_for_usage(body)
    assert asking is None or read_request(row, asking).include_usage


def seeds(directory: Path) -> None:
    """A corpus to start from: what is on file, in every row."""
    directory.mkdir(parents=True, exist_ok=True)
    for path in (ROOT / "tests" / "data").glob("*/*.*"):
        if path.suffix not in (".json", ".sse") or path.stat().st_size > 16_000:
            continue
        kind = ("chat", "completions", "responses", "embeddings").index(
            next((name for name in ("completions", "responses", "embeddings") if path.name.startswith(name)), "chat")
        )
        how = kind + len(ENDPOINTS) * (0 if path.suffix == ".sse" else 1)
        for ending in (1, 2):
            head = (how + ending * len(ENDPOINTS) * len(CONTENT_TYPES) * len(ENCODINGS) * len(STATUSES)) & 0xFFFF
            (directory / f"{path.parent.name}-{path.name}-{ending}").write_bytes(
                head.to_bytes(2, "big") + b"\x20\x80" + path.read_bytes()
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--seeds"]:
        seeds(Path(sys.argv[2]))
    else:
        atheris.Setup(sys.argv, run)
        atheris.Fuzz()
