"""The birth of a store: an id that it is given once, and that each proxy remembers in its own directory.

A store with another id, or a new one, has lost what was spent: it was wiped, or is another one. Its budgets would begin
anew, so refusing ones refuse until somebody has looked and acknowledged it.
"""

import logging
import os
import secrets
import time
from pathlib import Path

import msgspec

from proxy.errors import StoreWiped
from proxy.store import keys
from proxy.store.reads import Reads
from proxy.store.wire import Wire

LOOK_AGAIN_SECONDS = 1.0  # at what was acknowledged by another process
FILE = "store-birth"

log = logging.getLogger(__name__)
_known = msgspec.json.Decoder(dict[str, str]).decode


class Birth:
    """What one proxy knows of its store's birth. All its processes share the file: store → id, as JSON."""

    def __init__(self, directory: Path, store: str) -> None:
        """`store`: its URL as it may be shown."""
        self._path = directory / FILE
        self._store = store
        self._found: str | None = None
        self._is_strange = False
        self._looked = 0.0

    @property
    def is_strange(self) -> bool:
        """The store that answered last is not the one that was known."""
        if self._is_strange and time.monotonic() - self._looked > LOOK_AGAIN_SECONDS:
            self._looked = time.monotonic()
            self._is_strange = self._read().get(self._store) != self._found
        return self._is_strange

    def wiped(self) -> StoreWiped | None:
        """Until somebody has seen that what budgets had spent is gone: the error that says so."""
        if not self.is_strange:
            return None
        return StoreWiped(
            f"store {self._store} is not the one that was here before: what was spent is not in it; "
            "look, then run `taximeter budgets acknowledge`"
        )

    async def look(self, wire: Wire) -> None:
        """On a new connection: give the store an id if it has none, and compare. Raises StoreError."""
        made = secrets.token_hex(16)
        there = await wire.call("SET", keys.BIRTH, made, "NX", "GET")
        self._found = made if there is None else there.decode()
        known = self._read().get(self._store)
        if known is None:
            self.remember(self._found)
        elif known != self._found and not self._is_strange:
            log.error(
                "store %s is not the one that was here before: it was wiped, or is another one; budgets that refuse "
                "answer 503 until `taximeter budgets acknowledge`",
                self._store,
            )
        self._is_strange = known not in (None, self._found)

    def remember(self, birth: str) -> None:
        """From now on this is the store that is known. Whole or not at all."""
        made = self._path.with_name(f"{FILE}.{os.getpid()}")
        made.write_bytes(msgspec.json.encode({**self._read(), self._store: birth}))
        made.replace(self._path)

    def knows(self, birth: str) -> bool:
        return self._read().get(self._store) == birth

    def _read(self) -> dict[str, str]:
        try:
            return _known(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            log.warning("%s cannot be read, so the store is taken for the one that was here: %s", self._path, error)
            return {}


async def acknowledge(reads: Reads, birth: Birth) -> bool:
    """Know the store that is there now; whether another one was known. Raises StoreError."""
    there = await reads.call("GET", keys.BIRTH)
    if there is None or birth.knows(there.decode()):
        return False
    birth.remember(there.decode())
    return True
