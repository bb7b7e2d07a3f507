"""What a worker's requests are served with."""

import asyncio

from proxy.deadlines import Deadlines
from proxy.metrics import Metrics
from proxy.server.counting import Counting
from proxy.server.turn_end import TurnEnd
from proxy.settlement import Settlement
from proxy.upstream import Upstream


class Desk:
    """The same for every request of a worker."""

    __slots__ = ("counting", "deadlines", "loop", "metrics", "settlement", "turn_end", "upstream")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        upstream: Upstream,
        settlement: Settlement,
        counting: Counting,
        metrics: Metrics,
        deadlines: Deadlines,
    ) -> None:
        self.loop = loop
        self.turn_end = TurnEnd(loop)
        self.upstream = upstream
        self.settlement = settlement
        self.counting = counting
        self.metrics = metrics
        self.deadlines = deadlines
