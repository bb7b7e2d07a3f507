"""A reply in one piece: kept up to a bound, and read when it has ended."""

import re
from typing import Final

from proxy.metering.answer import Answer
from proxy.metering.estimate import CountTexts
from proxy.metering.event_stream import EventStream
from proxy.metering.reader import Reader

MAX_REPLY = 32 * 1024 * 1024
"""Bytes. Of a larger reply only the beginning is kept, for an estimate."""
_MAX_PART: Final = 4 * 1024 * 1024
# Events that were sent under another content type.
_EVENTS: Final = re.compile(rb"(?:\xef\xbb\xbf)?[\r\n]*+(?:data|event|id|retry)?:")

NOTHING_SAID = Answer(1)
"""Nobody changes it: whoever reads a reply puts another one in its place."""


class WholeReply:
    """Passes every byte on untouched. `fault` says why nothing can be read, once the reply has ended."""

    __slots__ = (
        "_choices_asked",
        "_is_read",
        "_max_reply",
        "_pieces",
        "_reader",
        "_size",
        "_stream",
        "answer",
        "fault",
    )

    def __init__(self, reader: Reader, *, choices_asked: int, max_reply: int = MAX_REPLY) -> None:
        self.answer = NOTHING_SAID
        self.fault: str | None = None
        self._reader = reader
        self._choices_asked = choices_asked
        self._max_reply = max_reply
        self._pieces: list[bytes] = []
        self._size = 0
        self._is_read = False
        self._stream: EventStream | None = None

    def feed(self, data: bytes) -> bytes:
        if self.fault is None:
            self._pieces.append(data)
            self._size += len(data)
            if self._size > self._max_reply:
                self.fault = "too_large"
                self._pieces = [b"".join(self._pieces)[:_MAX_PART]]
        return data

    def tail(self) -> bytes:
        """Nothing was held back. The reply has ended: read it, once."""
        if self._is_read:
            return b""
        self._is_read = True
        if self.fault is None and self._size:
            body = b"".join(self._pieces)
            said = self._reader.read_reply(body)
            if said is not None:
                self.answer = Answer.whole(said, self._choices_asked)
            else:
                self._read_oddly(body)
        return b""

    def gather(self) -> None:
        if self._stream is not None:
            self._stream.gather()

    def output_tokens(self, count: CountTexts) -> int:
        if self._stream is not None:
            return self._stream.output_tokens(count)
        body = b"".join(self._pieces)
        texts = self._reader.text_of_reply if self.answer.ended else self._reader.text_of_part
        return count(texts(body))

    def _read_oddly(self, body: bytes) -> None:
        """What is no reply: events under another content type, or nothing that anybody could read."""
        if _EVENTS.match(body):
            stream = EventStream(self._reader, choices_asked=self._choices_asked, hide=False)
            stream.feed(body)
            stream.tail()
            self.answer = stream.answer
            self._stream = stream
        else:
            self.fault = "unreadable"


class UnreadReply:
    """A reply in an encoding that is not read here. Its size is all that there is to estimate from."""

    fault = "unreadable"
    # A guess: compressed JSON has more text in a byte than this, a compressed stream of small events less.
    _BYTES_PER_TOKEN = 3

    def __init__(self, most_tokens: int | None) -> None:
        self.answer = Answer(1)
        self._most_tokens = most_tokens
        self._size = 0

    def feed(self, data: bytes) -> bytes:
        self._size += len(data)
        return data

    def tail(self) -> bytes:
        return b""

    def gather(self) -> None:
        """There is no text."""

    def output_tokens(self, _count: CountTexts) -> int:
        tokens = -(-self._size // self._BYTES_PER_TOKEN)
        return tokens if self._most_tokens is None else min(tokens, self._most_tokens)
