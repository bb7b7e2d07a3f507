"""Calls apply.lua: by its digest, and in full where the server does not know it yet (or any more)."""

import hashlib
from importlib.resources import files
from typing import Any

from proxy.errors import StoreRefused
from proxy.store import keys
from proxy.store.wire import CommandFailed, Wire

SOURCE = files("proxy.store").joinpath("apply.lua").read_bytes()
DIGEST = hashlib.sha1(SOURCE).hexdigest()  # noqa: S324 - the protocol's name for a script, no security


class ScriptFailed(StoreRefused):
    """A fault in the script itself, or operations that it cannot read. Faults of one operation are its answer."""


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

    async def apply(self, operations: bytes) -> list[Any]:
        """The answers, one an operation. Raises ScriptFailed when it ended in the middle."""
        try:
            answers = await self._call("EVALSHA", DIGEST, operations)
        except CommandFailed as error:
            if error.code != "NOSCRIPT":
                raise
            answers = await self._call("EVAL", SOURCE, operations)
        assert isinstance(answers, list)
        return answers

    async def _call(self, command: str, script: str | bytes, operations: bytes) -> Any:
        try:
            return await self._wire.call(command, script, *self._arguments, operations)
        except CommandFailed as error:
            if "user_script" in str(error):  # how the server names the place of a fault in a script
                raise ScriptFailed(str(error)) from None
            raise
