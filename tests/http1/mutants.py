"""Messages that are nearly right: parts of proper ones, mixed, doubled, cut and spoilt. For hypothesis and for chance."""

import random
from collections.abc import Callable

LINES = (
    b"Host: x", b"host: y", b"Host : x", b"Host:x", b"Content-Length: 3", b"content-length:3", b"Content-Length: 3, 3",
    b"Content-Length: +3", b"Content-Length: 03", b"Content-Length: 0x3", b"Content-Length: 5", b"Content-Length: 0",
    b"Content-Length: 3 ", b"Content-Length:\t3", b"Content-Length: 3;", b"Content_Length: 3", b"Content-Length:",
    b"Transfer-Encoding: chunked", b"transfer-encoding:chunked", b"Transfer-Encoding: CHUNKED",
    b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: identity",
    b"Transfer-Encoding : chunked", b"Transfer-Encoding:\x0bchunked", b'Transfer-Encoding: "chunked"',
    b" Transfer-Encoding: chunked", b"Transfer-Encoding:", b"Transfer-Encoding: chunked;a=b", b"X: a", b"X:", b"X: \xff",
    b"Connection: close", b"Connection: keep-alive", b"Connection: upgrade", b"Upgrade: websocket", b"Upgrade: h2c",
    b"Connection: Transfer-Encoding", b"Expect: 100-continue", b"Trailer: X", b"\tfolded", b" folded", b"no colon", b":",
    b"X: a\x00b", b"X: a\rb", b"X: a\nb", b"Proxy-Connection: keep-alive", b"Keep-Alive: timeout=5",
)  # fmt: skip
REQUEST_LINES = (
    b"GET /v1/x HTTP/1.1", b"POST /v1/x HTTP/1.1", b"POST /v1/x?a=b HTTP/1.0", b"HEAD / HTTP/1.1", b"GET  / HTTP/1.1",
    b"GET / HTTP/1.1 ", b"GET /\xff HTTP/1.1", b"get / HTTP/1.1", b"GET http://x/ HTTP/1.1", b"OPTIONS * HTTP/1.1",
    b"CONNECT x:1 HTTP/1.1", b"GET / HTTP/1.2", b"GET / HTTP/2.0", b"GET /", b"DELETE /v1/a%2Fb HTTP/1.1", b"",
)  # fmt: skip
STATUS_LINES = (
    b"HTTP/1.1 200 OK", b"HTTP/1.1 200", b"HTTP/1.1 200 ", b"HTTP/1.0 200 OK", b"HTTP/1.1 204 No Content",
    b"HTTP/1.1 304 Not Modified", b"HTTP/1.1 100 Continue", b"HTTP/1.1 103 Early Hints", b"HTTP/1.1 404 Not Found",
    b"HTTP/1.1  200 OK", b"HTTP/1.1 20 OK", b"HTTP/1.1 2000 OK", b"HTTP/2 200", b"200 OK", b"HTTP/1.1 200 \xe9", b"",
)  # fmt: skip
BODIES = (
    b"", b"abc", b"abcde", b"0\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n", b"3\r\nabc\r\n", b"3;a=b\r\nabc\r\n0\r\n\r\n",
    b"3 ;a\r\nabc\r\n0\r\n\r\n", b"03\r\nabc\r\n00\r\n\r\n", b"0x3\r\nabc\r\n0\r\n\r\n", b"3\nabc\n0\n\n",
    b"3\r\nabcd\r\n0\r\n\r\n", b"A\r\n0123456789\r\n0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"0\r\nContent-Length: 3\r\n\r\n",
    b"ffffffffffffffff\r\n", b"-3\r\nabc\r\n0\r\n\r\n", b'3;a="\r\n"\r\nabc\r\n0\r\n\r\n', b"0\r\n",
)  # fmt: skip
ENDS = (b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r\n")

Choose = Callable[[int], int]
"""A number below the given one."""


def message(choose: Choose, *, answer: bool) -> bytes:
    first = STATUS_LINES if answer else REQUEST_LINES
    # Mostly proper: what is refused in its first line tests nothing else.
    parts = [first[choose(3)] if choose(4) else first[choose(len(first))]]
    if not answer and choose(8):
        parts.append(b"Host: x")
    parts += [LINES[choose(len(LINES))] for _ in range(choose(4))]
    head = b"".join(part + (b"\r\n" if choose(12) else ENDS[choose(len(ENDS))]) for part in parts)
    return head + b"\r\n" + BODIES[choose(len(BODIES))]


def stream(choose: Choose, *, answers: bool) -> bytes:
    """One to three messages, then some bytes of it changed, doubled or gone."""
    raw = b"".join(message(choose, answer=answers) for _ in range(1 + choose(3)))
    for _ in range(choose(3) if choose(2) else 0):
        at = choose(len(raw) + 1)
        raw = (
            raw[:at] + raw[at + 1 :],
            raw[:at] + bytes([choose(256)]) + raw[at + 1 :],
            raw[:at] + b"\r\n\t :;,0\x00"[choose(9) :][:1] + raw[at:],
            raw[:at] + raw[max(0, at - 12) : at] + raw[at:],
        )[choose(4)]
    return raw


def by_chance(chance: random.Random) -> Choose:
    return chance.randrange
