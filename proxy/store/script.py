"""Calls apply.lua: by its digest, and in full where the server does not know it yet (or any more)."""

import hashlib
from importlib.resources import files
from typing import Any

from proxy.store import keys
from proxy.store.wire import CommandFailed, Wire

SOURCE = files("proxy.store").joinpath("apply.lua").read_bytes()
DIGEST = hashlib.sha1(SOURCE).hexdigest()  # noqa: S324 - the protocol's name for a script, no security


def is_fault(error: CommandFailed) -> bool:
    """Of the script itself, or of operations that it cannot read: faults of one operation are its answer."""
    return "user_script" in str(error)  # how the server names the place of a fault in a script


class Script:
    """The script, as one connection of one writer calls it."""

    def __init__(self, wire: Wire, writer: str, token: str) -> None:
        self._wire = wire
        names = (
            keys.writer(writer),
            keys.holds(writer),
            keys.presumed(writer),
            keys.LEDGER,
            keys.ASIDE,
            keys.PARKED,
            keys.WRITERS,
        )
        prefixes = (keys.COMMITTED, keys.HELD, keys.OWNERS, keys.SUMS)
        self._arguments = (len(names), *names, *prefixes, keys.WRITER_KEPT_SECONDS, token)
        self._by_digest = self._start("EVALSHA", DIGEST)

    def _start(self, command: str, script: str | bytes) -> bytes:
        """A call up to the operations."""
        words = (command, script, *self._arguments)
        encoded = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        return b"*%d\r\n" % (len(words) + 1) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded])

    def call(self, operations: bytes) -> bytes:
        """A call by the script's digest, as bytes for the server."""
        return b"%b$%d\r\n%b\r\n" % (self._by_digest, len(operations), operations)

    def call_in_full(self, operations: bytes) -> bytes:
        """The same for a server that does not know the script."""
        return b"%b$%d\r\n%b\r\n" % (self._start("EVAL", SOURCE), len(operations), operations)

    async def apply(self, operations: bytes) -> list[Any]:
        """The answers, one an operation. Raises CommandFailed when it ended in the middle (see `is_fault`)."""
        try:
            answers = await self._wire.call("EVALSHA", DIGEST, *self._arguments, operations)
        except CommandFailed as error:
            if error.code != "NOSCRIPT":
                raise
            answers = await self._wire.call("EVAL", SOURCE, *self._arguments, operations)
        assert isinstance(answers, list)
        return answers
