"""Who calls: a key becomes an owner.

A taximeter key (`tm-…`) names its owner in the store; any other key stays its caller's own affair and is only hashed.
"""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from proxy.budgets import Owner
from proxy.errors import StoreAway
from proxy.server import replies
from proxy.store import Store

PREFIX = "tm-"
FRESH_SECONDS = 5.0  # a revoked key stops within this time
GRACE_SECONDS = 300.0  # while the store is away, a key seen this lately goes on
MAX_CACHED = 10_000

ANONYMOUS = Owner(name="anonymous", identity="anonymous")
# What a taximeter key is good for: inference. Files, jobs, and the account itself belong to the upstream key's owner.
_OPEN_PATHS = re.compile(
    r"(?:chat/completions|completions|responses(?:/.*)?|embeddings|moderations|models(?:/.*)?"
    r"|images/(?:generations|edits|variations)|audio/(?:speech|transcriptions|translations))"
)


@dataclass(frozen=True, slots=True)
class Caller:
    """`by_taximeter_key`: the key stays here, and the upstream's own takes its place."""

    owner: Owner
    by_taximeter_key: bool


def presented_key(headers: Mapping[str, str]) -> str | None:
    """The key of a request: a bearer token, or Azure's `api-key`.

    A taximeter key is recognised in every header that carries keys, with whatever scheme: it must never be taken for
    somebody else's, or for none.
    """
    scheme, _, token = headers.get("Authorization", "").strip().rpartition(" ")
    azure = headers.get("api-key", "").strip()
    for candidate in (token, azure, headers.get("x-api-key", "").strip()):
        if candidate.startswith(PREFIX):
            return candidate
    return (token if scheme.strip().lower() == "bearer" else "") or azure or None


class Callers:
    """Owners by key. The whole digest is the identity; eight digits of it are what is shown."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: OrderedDict[str, tuple[float, str | None]] = OrderedDict()

    async def identify(self, headers: Mapping[str, str], path: str, *, require_key: bool, now: float) -> Caller:
        """The caller, or Refused. `now`: monotonic seconds. Waits only for a taximeter key not seen lately."""
        key = presented_key(headers)
        if key is None or not key.startswith(PREFIX):
            if require_key:
                raise replies.invalid_api_key("this proxy serves taximeter keys only: ask its operator for one")
            if key is None:
                return Caller(ANONYMOUS, by_taximeter_key=False)
            digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
            return Caller(Owner(name=f"key-{digest[:8]}", identity=f"key-{digest}"), by_taximeter_key=False)
        owner = await self._owner_of(hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest(), now)
        if owner is None:
            raise replies.invalid_api_key("this taximeter key is unknown or was revoked")
        if not _OPEN_PATHS.fullmatch(path):
            raise replies.path_not_open()
        return Caller(Owner(name=owner, identity=owner), by_taximeter_key=True)

    async def _owner_of(self, digest: str, now: float) -> str | None:
        known = self._known.get(digest)
        if known is not None and now - known[0] < FRESH_SECONDS:
            return known[1]
        try:
            owner = await self._store.find_key(digest)
        except StoreAway:
            if known is not None and known[1] is not None and now - known[0] < GRACE_SECONDS:
                return known[1]
            raise replies.store_unavailable("this taximeter key cannot be checked: the store is away") from None
        self._known[digest] = (now, owner)
        self._known.move_to_end(digest)
        if len(self._known) > MAX_CACHED:
            self._known.popitem(last=False)
        return owner
