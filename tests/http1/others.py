"""llhttp and h11 as readers of the same bytes: the messages that each of them takes from a stream, in our form."""

from collections.abc import Sequence

import h11
import httptools

from tests.http1.reading import Message, Read

_FRAMING = (b"content-length", b"transfer-encoding")


class _Callbacks:
    """What llhttp calls, for requests and for answers."""

    def __init__(self, read: Read) -> None:
        self._read = read

    def on_message_begin(self) -> None:
        self._read.messages.append(Message())

    def on_url(self, url: bytes) -> None:
        self._read.messages[-1].target += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._read.messages[-1].headers.append((name.lower(), value.strip(b" \t")))

    def on_body(self, data: bytes) -> None:
        self._read.messages[-1].body += data

    def on_message_complete(self) -> None:
        self._read.messages[-1].is_whole = True


def llhttp(pieces: Sequence[bytes], *, answers: bool = False) -> Read:
    found = Read()
    callbacks = _Callbacks(found)
    parser = httptools.HttpResponseParser(callbacks) if answers else httptools.HttpRequestParser(callbacks)
    try:
        for piece in pieces:
            parser.feed_data(piece)
    except httptools.HttpParserUpgrade:
        found.refused = "it takes what follows for another protocol"
    except httptools.HttpParserError as error:
        found.refused = str(error) or type(error).__name__
    return found


def with_h11(pieces: Sequence[bytes], *, answers: bool = False) -> Read:
    found = Read()
    connection = h11.Connection(h11.CLIENT if answers else h11.SERVER, max_incomplete_event_size=1 << 20)
    if answers:
        connection.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
        connection.send(h11.EndOfMessage())
    try:
        for piece in pieces:
            connection.receive_data(piece)
            _drain(connection, found, answers=answers)
    except h11.ProtocolError as error:  # or CONNECT, after which h11 reads no more
        found.refused = str(error)
    return found


def _drain(connection: h11.Connection, found: Read, *, answers: bool) -> None:
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            return
        if event is h11.PAUSED:
            if not answers and connection.our_state is h11.SEND_RESPONSE:
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                found.refused = found.refused or "it ends the connection here"
                return
            connection.start_next_cycle()
        elif isinstance(event, h11.Request):
            message = Message(event.method.decode(), event.target.decode("latin-1"))
            message.headers = [(bytes(name), bytes(value)) for name, value in event.headers]
            found.messages.append(message)
        elif isinstance(event, h11.Response | h11.InformationalResponse):
            message = Message(status=event.status_code)
            message.headers = [(bytes(name), bytes(value)) for name, value in event.headers]
            message.is_whole = isinstance(event, h11.InformationalResponse)
            found.messages.append(message)
        elif isinstance(event, h11.Data):
            found.messages[-1].body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            found.messages[-1].is_whole = True
            if answers:
                return
        elif isinstance(event, h11.ConnectionClosed):
            return


def differences(ours: Read, theirs: Read) -> list[str]:
    """Where the other reads otherwise what we have accepted. That it refuses where we do not is no difference here,
    and neither is what it reads after we have refused.
    """
    found = []
    for number, mine in enumerate(ours.messages):
        if number >= len(theirs.messages):
            if theirs.refused is None:
                found.append(f"message {number}: it has not seen it")
            break
        other = theirs.messages[number]
        if theirs.refused is None or number < len(theirs.messages) - 1:
            found += [f"message {number}: {difference}" for difference in _otherwise(mine, other)]
        if not mine.is_whole and ours.refused is None and other.is_whole:
            found.append(f"message {number}: it ends there after {other.body!r}, here it does not")
        if not other.body.startswith(mine.body) and not mine.body.startswith(other.body):
            found.append(f"message {number}: body {mine.body!r} and {other.body!r}")
    return found


def _otherwise(mine: Message, other: Message) -> list[str]:
    """Of a message that neither has refused."""
    found = []
    if (mine.method and other.method and mine.method != other.method) or mine.target != other.target:
        found.append(f"{mine.method} {mine.target!r} and {other.method} {other.target!r}")
    if mine.status and other.status and mine.status != other.status:
        found.append(f"status {mine.status} and {other.status}")
    headers = [each for each in mine.headers if each[0] not in _FRAMING]
    # llhttp gives trailers as more headers.
    theirs = [each for each in other.headers if each[0] not in _FRAMING][: len(headers)]
    if headers != theirs:
        found.append(f"headers {headers} and {theirs}")
    if mine.is_whole and (not other.is_whole or mine.body != other.body):
        found.append(f"body {mine.body!r} and {other.body!r}, whole: {other.is_whole}")
    return found
