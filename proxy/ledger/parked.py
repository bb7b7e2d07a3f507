"""What is kept of a request that the upstream works on in the background, until somebody sees its end."""

import msgspec


class Parked(msgspec.Struct, frozen=True, kw_only=True):
    """Enough to charge it as if its answer had come at once: to its owner, at its own time, under its own id."""

    entry_id: str
    at: str
    """UTC, RFC 3339."""
    owner: str
    """The owner's identity."""
    endpoint: str
    asked_model: str | None
    client_request_id: str | None
    prompt_tokens: int
    """An estimate, for an end that says nothing."""
