"""Requests that are alike: those of one client mostly differ in nothing but the length of their body."""

from typing import Final

from proxy.http1.heads import RequestHead, read_request

MOST = 512
"""Heads that are remembered; some 6 KB each at most."""
LARGEST = 2048  # bytes of a head that is worth remembering
_ONCE: Final = 4096  # heads of which only is known that they came
_LENGTHS: Final = (
    b"\r\nContent-Length: ",
    b"\r\ncontent-length: ",
)  # as clients write it; any other way is read as a whole
_LONGEST_NUMBER: Final = 15  # digits, as in a head that is read as a whole


class SeenHeads:
    """Reads heads of requests; one that came before, but for its length, is not read again.

    What is remembered is a head without a length, read whole and strictly like any other, and only if its body could be
    framed by nothing else. So a head with one line `Content-Length: digits` in it means what that one means, and has a
    body of so many bytes. A head is remembered when it comes for the second time: many carry an id that never comes
    again.
    """

    __slots__ = ("_heads", "_once")

    def __init__(self) -> None:
        self._heads: dict[bytes, RequestHead] = {}
        self._once: set[int] = set()

    def read(self, head: bytes) -> tuple[RequestHead, int]:
        """A whole head, its blank line included, and the bytes of its body; 0 where that comes in chunks, too.

        The head may be the one of an earlier request, with the same lines but for the length. Raises BadHttp.
        """
        rest, length = _without_length(head)
        found = self._heads.get(rest)
        if found is not None:
            return found, length
        read = read_request(head)
        if len(head) <= LARGEST:
            self._remember(rest, read)
        return read, read.length

    def _remember(self, rest: bytes, read: RequestHead) -> None:
        mark = hash(rest)
        if mark not in self._once:
            if len(self._once) >= _ONCE:
                self._once.clear()
            self._once.add(mark)
            return
        if read.chunked or read.upgrade or read.expects_continue:
            return
        alike = read_request(rest)
        if alike.raw(b"content-length") is None:
            if len(self._heads) >= MOST:
                self._heads.clear()
            self._heads[rest] = alike


def _without_length(head: bytes) -> tuple[bytes, int]:
    """The head without the first line that says its length, and that; the head itself and 0 where there is none."""
    for name in _LENGTHS:
        at = head.find(name)
        if at > 0:
            start = at + len(name)
            end = head.find(b"\r\n", start)
            digits = head[start:end]
            if digits.isdigit() and len(digits) <= _LONGEST_NUMBER:
                return head[:at] + head[end:], int(digits)
            break
    return head, 0
