"""How many requests an owner may have open at a time in one worker, so that nobody starves a budget with holds."""

from proxy.budgets import Owner
from proxy.server import replies


class OpenRequests:
    """Counts by identity. Each `enter` that comes back is followed by exactly one `leave`, at the request's end."""

    def __init__(self) -> None:
        self._open: dict[str, int] = {}

    def enter(self, owner: Owner, most: int | None = None) -> None:
        """Raises Refused when the owner has `most` open. None: one that came before, and goes on."""
        now = self._open.get(owner.identity, 0)
        if most is not None and now >= most:
            raise replies.too_many_open_requests(owner.name, most)
        self._open[owner.identity] = now + 1

    def leave(self, owner: Owner) -> None:
        left = self._open[owner.identity] - 1
        if left:
            self._open[owner.identity] = left
        else:
            del self._open[owner.identity]

    def of(self, owner: Owner) -> int:
        """How many are open now."""
        return self._open.get(owner.identity, 0)
