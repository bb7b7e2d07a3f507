"""What a reply has said so far, put together from all that it says."""

from proxy.metering.reader import Said, SaidUsage
from rates.usage import Usage


class Answer:
    """Grows with each thing said. The last usage counts; a model or tier said beside it goes before an earlier one."""

    __slots__ = (
        "background", "choices_asked", "ended", "error", "failed", "final", "finishes", "model", "search_kind_unclear",
        "service_tier", "unfinished", "upstream_id", "usage",
    )  # fmt: skip

    def __init__(self, choices_asked: int) -> None:
        self.choices_asked = choices_asked
        self.model: str | None = None
        self.upstream_id: str | None = None
        self.service_tier: str | None = None
        self.usage: SaidUsage = None
        self.final = False
        """The usage cannot grow any more, even if the reply breaks off now: it came alone, or with the only finish."""
        self.finishes = False
        """The usage came in an event that finishes a choice. Of several choices another one may still be running."""
        self.ended = False
        """The reply came to its own end: the JSON is whole, or [DONE] or a last event was there."""
        self.unfinished = False
        """The upstream works on it in the background: its usage comes with another request."""
        self.background: bool | None = None
        """It was made in the background, or was not; None: nothing is said of that."""
        self.failed = False
        """The reply says of itself that it failed."""
        self.search_kind_unclear = False
        """Its usage has searches of a kind that it does not tell."""
        self.error = False
        """The reply says that something went wrong in it."""

    @classmethod
    def whole(cls, said: Said, choices_asked: int) -> "Answer":
        """Of a reply that says everything at once."""
        answer = cls(choices_asked)
        answer.model = said.model
        answer.upstream_id = said.upstream_id
        answer.service_tier = said.service_tier
        answer.usage = said.usage
        answer.final = answer.ended = True
        answer.finishes = said.finishes
        answer.unfinished = said.unfinished is True
        answer.background = said.background
        answer.failed = said.failed
        answer.search_kind_unclear = said.search_kind_unclear
        answer.error = said.error
        return answer

    def take(self, said: Said) -> None:
        beside_usage = said.usage is not None
        if said.model is not None and (beside_usage or self.model is None):
            self.model = said.model
        if said.service_tier is not None and (beside_usage or self.service_tier is None):
            self.service_tier = said.service_tier
        self.upstream_id = self.upstream_id or said.upstream_id
        self.error = self.error or said.error
        self.failed = self.failed or said.failed
        self.ended = self.ended or said.ends
        if said.background is not None:
            self.background = said.background
        if said.unfinished is not None:
            self.unfinished = said.unfinished
        if said.usage is not None:
            self.usage = said.usage
            self.search_kind_unclear = said.search_kind_unclear
            self.finishes = said.finishes
            self.final = said.without_choices or (said.finishes and self.choices_asked == 1)

    @property
    def believed(self) -> Usage | None:
        return self.usage if isinstance(self.usage, Usage) else None
