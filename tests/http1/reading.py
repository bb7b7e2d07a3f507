"""Reads whole byte strings with proxy.http1, as a connection would, and says what came of it."""

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from proxy.http1 import BadHttp, Body, Length, ResponseHead, SeenHeads, end_of_head, read_response

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


# One for all that is read in a process: whatever came before must not change what is read.
_SEEN = SeenHeads()


def _request(raw: bytes) -> tuple[Message, Body]:
    head, length = _SEEN.read(raw)
    message = Message(head.method, head.target, headers=[(name, value) for name, value, _ in head.fields])
    if length and head.raw(b"content-length") is None:  # it was read before, but for that
        message.headers.append((b"content-length", b"%d" % length))
    return message, Length(length) if length else head.body()


def _answer(raw: bytes) -> tuple[Message, Body]:
    head: ResponseHead = read_response(raw, "GET")
    message = Message(status=head.status, headers=[(name, value) for name, value, _ in head.fields])
    return message, head.body()


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
                message, body = _answer(held[:end]) if answers else _request(held[:end])
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
