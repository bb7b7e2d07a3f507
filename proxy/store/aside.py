"""What the store rejects for ever, in a file of this proxy: a line of JSON each, for somebody to look at.

The store has them too, in the stream `aside`, if it takes that. Whoever has seen to them moves the file away.
"""

import logging
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from proxy.ledger.texts import utc_text
from proxy.store.finished import SetAside

FILE = "aside.jsonl"

log = logging.getLogger(__name__)


class _Line(msgspec.Struct, frozen=True):
    at: str
    id: str
    why: str
    record: msgspec.Raw


class Aside:
    """Several processes append to the file, each line with one write."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        self._counted = (0, 0)  # bytes, lines

    def add(self, aside: SetAside) -> None:
        line = _Line(utc_text(datetime.now(UTC)), aside.id, aside.why, msgspec.Raw(aside.line.encode()))
        try:
            with self._path.open("ab", buffering=0) as file:
                file.write(msgspec.json.encode(line) + b"\n")
        except OSError as error:
            log.error("%s cannot be written (%s); set aside: %s", self._path, error.strerror, aside.line)  # noqa: TRY400

    def count(self) -> int:
        """Lines in the file. Reads it only when it has changed."""
        try:
            size = self._path.stat().st_size
            if size != self._counted[0]:
                self._counted = size, self._path.read_bytes().count(b"\n")
        except FileNotFoundError:
            return 0
        return self._counted[1]
