"""An attempt: one request on its way upstream, and who gets its answer."""

from typing import TYPE_CHECKING, Protocol

from proxy.errors import UpstreamError
from proxy.http1 import ResponseHead

if TYPE_CHECKING:
    from proxy.upstream.connection import Connection


class Receiver(Protocol):
    """Gets an answer as it comes: `answered`, then `came` for each piece, then `ended`. `failed` may take the place of
    any of them, and is the last. None of them is called after `Attempt.cancel`.
    """

    def answered(self, head: ResponseHead) -> None: ...

    def came(self, payload: bytes, framed: bytes | None) -> None:
        """A piece of the body. `framed`: the same as whole chunks, as it came, if it came so."""

    def ended(self, trailers: list[bytes]) -> None: ...

    def failed(self, error: UpstreamError) -> None: ...

    def upstream_full(self) -> None:
        """The upstream takes no more of a streamed body for now."""

    def upstream_ready(self) -> None:
        """It does again; also said when a streamed body may begin."""


class Attempt:
    """Head and body of a request, and how far it got. `body` None: it is streamed, with `send` and `finish`."""

    __slots__ = (
        "_is_paused", "began", "body", "connection", "head", "is_repeat", "method", "over", "receiver", "sent_all",
        "upgrade",
    )  # fmt: skip

    def __init__(self, method: str, head: bytes, body: bytes | None, receiver: Receiver, *, upgrade: bool) -> None:
        self.method = method
        self.head = head
        self.body = body
        self.receiver = receiver
        self.upgrade = upgrade
        self.connection: Connection | None = None
        self.began = False
        """Bytes of it may have reached the upstream."""
        self.sent_all = body is not None
        """Nothing of it will follow."""
        self.is_repeat = False
        self.over = False
        """Its receiver hears nothing more."""
        self._is_paused = False

    @property
    def may_repeat(self) -> bool:
        return self.body is not None and not self.is_repeat

    def send(self, data: bytes) -> None:
        """A piece of a streamed body, framed; or of what follows an upgrade. Only after the first `upstream_ready`."""
        if self.connection is not None:
            self.connection.write(data)

    def finish(self) -> None:
        """The streamed body is whole."""
        self.sent_all = True

    def pause(self) -> None:
        """The receiver can take no more for now. Nothing when it is over: its connection may serve another one."""
        if not self.over:
            self._is_paused = True
            if self.connection is not None:
                self.connection.pause()

    def resume(self) -> None:
        if self._is_paused and not self.over:
            self._is_paused = False
            if self.connection is not None:
                self.connection.resume()

    def cancel(self) -> None:
        """Nobody wants the answer: the connection is closed, which tells the upstream."""
        if not self.over:
            self.over = True
            if self.connection is not None:
                self.connection.abandon()

    def fail(self, error: UpstreamError) -> None:
        if not self.over:
            self.over = True
            self.connection = None
            self.receiver.failed(error)
