"""Reads whole byte strings with proxy.http1, as a connection would, and says what came of it."""

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from proxy.http1 import BadHttp, Body, ResponseHead, end_of_head, read_request, read_response

CORPUS = Path(__file__).parent / "corpus"


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    raw: bytes
    reads: tuple[str, ...] = ()


def cases(file: str) -> list[Case]:
    table = tomllib.loads((CORPUS / file).read_text())
    return [Case(case["name"], case["raw"].encode("latin-1"), tuple(case.get("reads", ()))) for case in table["case"]]


@dataclass(slots=True)
class Message:
    """`is_whole`: its body came to its end."""

    method: str = ""
    target: str = ""
    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    is_whole: bool = False

    @property
    def shown(self) -> str:
        return f"{self.method} {self.target} {self.body.decode('latin-1')}"


@dataclass(slots=True)
class Read:
    """What was read before the end, or before something was refused."""

    messages: list[Message] = field(default_factory=list)
    refused: str | None = None


def pieces_of(raw: bytes, size: int) -> list[bytes]:
    return [raw[start : start + size] for start in range(0, len(raw), size)]


def read(pieces: Sequence[bytes], *, answers: bool = False) -> Read:
    """Requests (or the answer to a GET, with what comes before it), fed piece by piece. Stops at what is refused."""
    found = Read()
    try:
        for message in _messages(pieces, answers=answers):
            found.messages.append(message)
    except BadHttp as error:
        found.refused = str(error)
    return found


def _messages(pieces: Sequence[bytes], *, answers: bool) -> Iterator[Message]:
    held, searched = b"", 0
    message: Message | None = None
    body: Body | None = None
    for piece in pieces:
        data = piece
        while data:
            if body is None:
                held += data
                data = b""
                end = end_of_head(held, searched)
                if end < 0:
                    searched = len(held)
                    break
                head = read_response(held[:end], "GET") if answers else read_request(held[:end])
                message = Message(headers=[(name, value) for name, value, _ in head.fields])
                if isinstance(head, ResponseHead):
                    message.status = head.status
                else:
                    message.method, message.target = head.method, head.target
                body = head.body()
                data, held, searched = held[end:], b"", 0
                yield message
                if body.done:
                    message.is_whole = True
                    body = None
                    if message.status >= 200:
                        return
                continue
            assert message is not None
            message.body += body.feed(data)
            data = b""
            if body.done:
                message.is_whole = True
                data, body = body.rest, None
                if answers:
                    return
