"""How the meter's tests feed it: whole, byte by byte, cut anywhere."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from proxy.metering import Ending, Endpoint, Meter, Reading, RequestFacts, endpoint_of

DATA = Path(__file__).parents[1] / "data"
CHAT = endpoint_of("POST", "chat/completions")
STREAM = "text/event-stream; charset=utf-8"
JSON = "application/json"
FACTS = RequestFacts(model="asked", stream=True, prompt_tokens=7, body_is_json=True)


def run(
    pieces: Iterable[bytes],
    *,
    hide: bool = False,
    ending: Ending = Ending.COMPLETE,
    content_type: str = STREAM,
    status: int = 200,
    encoding: str = "",
    facts: RequestFacts = FACTS,
    endpoint: Endpoint = CHAT,
) -> tuple[Reading, bytes]:
    """(the reading, what the client saw)."""
    meter = Meter(endpoint, facts, hide_usage=hide)
    meter.start(status, content_type, encoding)
    seen = b"".join([meter.feed(piece) for piece in pieces]) + meter.tail()
    return meter.finish(ending), seen


def one_by_one(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def every_split(data: bytes) -> Iterator[list[bytes]]:
    for at in range(len(data) + 1):
        yield [data[:at], data[at:]]


def stream(name: str) -> bytes:
    return (DATA / "streams" / f"{name}.sse").read_bytes()


def reply(name: str) -> bytes:
    return (DATA / "replies" / f"{name}.json").read_bytes()
