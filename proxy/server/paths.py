"""Where a request goes: our /v1/…, and Azure's own paths under /openai/.

`/v1/x` goes to the upstream's base with `/x`; `/openai/…` goes to the upstream's origin as it stands.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from proxy.server import replies


@dataclass(frozen=True, slots=True)
class Target:
    """`path` is relative to /v1/ (or to what stands for it at Azure), raw; `tail` is the raw path and query to send."""

    path: str
    tail: str
    at_origin: bool = False
    """The tail follows the upstream's origin, and not its base."""
    deployment: str | None = None
    """Azure's: what is asked is not a model but a deployment of one."""
    unquoted: str | None = None
    """The path as an upstream may take it that decodes before it cuts; None: `path` says it all."""


def target_of(raw: str) -> Target:
    """Of a request's raw path and query. Raises Refused for a path that is not ours."""
    return _seen(raw) if len(raw) <= _LONGEST_SEEN else _look(raw)


def _look(raw: str) -> Target:
    path = raw.partition("?")[0]
    if any(unquote(segment) in (".", "..") for segment in path.split("/")):
        # What an upstream makes of them is its secret; they could leave its /v1.
        raise replies.bad_path() if _is_ours(path) else replies.not_found(path)
    if path == "/v1" or path.startswith("/v1/"):
        return Target(path[4:], raw[3:])
    if not path.startswith("/openai/"):
        raise replies.not_found(path)
    below, deployment = _below_azure(path[8:])
    unquoted, hidden_deployment = _below_azure(unquote(path[8:]))
    return Target(below, raw, True, deployment or hidden_deployment, unquoted)


def _is_ours(path: str) -> bool:
    return path == "/v1" or path.startswith(("/v1/", "/openai/"))


def _below_azure(path: str) -> tuple[str, str | None]:
    """(the path below `v1/` or `deployments/NAME/` or neither, the deployment). Azure does not look at case."""
    segments = [segment for segment in path.split("/") if segment]
    first = unquote(segments[0]).lower() if segments else ""
    if first == "v1":
        return "/".join(segments[1:]), None
    if first == "deployments" and len(segments) > 2:
        return "/".join(segments[2:]), unquote(segments[1])
    return "/".join(segments), None


# Nearly all requests have one of few paths; others must not fill the memory.
_LONGEST_SEEN: Final = 128
_seen = lru_cache(maxsize=512)(_look)
