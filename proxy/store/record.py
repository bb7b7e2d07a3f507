"""What the store asks of a writer's journal; and what stands in for one where nothing is settled."""

from collections.abc import Sequence
from typing import Protocol


class Record(Protocol):
    """What a writer's journal is asked for here."""

    last_number: int

    def open(self, requests: Sequence[tuple[str, bytes]]) -> None: ...
    def done(self, entry_id: str, body: bytes) -> int: ...
    def drop(self, entry_id: str) -> None: ...
    def retry(self) -> bool: ...
    def continue_after(self, number: int) -> None: ...
    def confirm(self, number: int) -> None: ...


class Unjournalled:
    """Numbers, and nothing kept: for commands, which settle nothing."""

    def __init__(self) -> None:
        self.last_number = 0

    def open(self, requests: Sequence[tuple[str, bytes]]) -> None:
        """Nothing."""

    def done(self, entry_id: str, body: bytes) -> int:  # noqa: ARG002
        self.last_number += 1
        return self.last_number

    def drop(self, entry_id: str) -> None:
        """Nothing."""

    def retry(self) -> bool:
        return True

    def continue_after(self, number: int) -> None:
        self.last_number = max(self.last_number, number)

    def confirm(self, number: int) -> None:
        """Nothing."""
