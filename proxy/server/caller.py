"""Who calls: a key becomes an owner.

A taximeter key (`tm-…`) names its owner in the store; any other key stays its caller's own affair and is only hashed.
"""

import asyncio
import hmac
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from proxy.budgets import ANONYMOUS, Owner
from proxy.budgets.glob import fits
from proxy.denials import rfc3339
from proxy.errors import StoreAway
from proxy.server import replies
from proxy.store import CallerKey, Store
from proxy.store.caller_keys import ID_DIGITS, PREFIX, digest_of

FRESH_SECONDS = 5.0  # so long what is known of a key counts without another look at the store
GRACE_SECONDS = 300.0  # so much longer while the store is away
MAX_CACHED = 10_000

# What a taximeter key is good for: inference. Files, jobs, and the account itself belong to the upstream key's owner.
_OPEN_PATHS: Final = re.compile(
    r"(?:chat/completions|completions|responses(?:/.*)?|embeddings|moderations|models(?:/.*)?"
    r"|images/(?:generations|edits|variations)|audio/(?:speech|transcriptions|translations))"
)
_fits = lru_cache(maxsize=1024)(fits)


class Caller:
    """`by_taximeter_key`: the key stays here, and the upstream's own takes its place."""

    __slots__ = ("by_taximeter_key", "models", "owner")

    def __init__(self, owner: Owner, *, by_taximeter_key: bool, models: tuple[str, ...] = ()) -> None:
        self.owner = owner
        self.by_taximeter_key = by_taximeter_key
        self.models = models
        """Globs that the key is limited to, one of which must fit; none: every model is open to it."""

    def check_model(self, asked: str | None, models: Mapping[str, str]) -> None:
        """Raises Refused when the key is not for this model. `models`: the table of what else a model is called.

        `asked` None: the request names none, or one cannot see which; under such a key that cannot pass.
        """
        if not self.models:
            return
        names = (asked, models.get(asked, asked)) if asked else ()
        if not any(_fits(glob)(name) for glob in self.models for name in names):
            raise replies.model_not_allowed(asked, self.models)


class _Known:
    """What the store said of a key at a time (monotonic seconds), under a revision. `key` None: it has none such."""

    __slots__ = ("at", "caller", "digest", "expires_at", "key", "revision")

    def __init__(self, digest: str, key: CallerKey | None, at: float, revision: bytes | None) -> None:
        self.digest = digest
        self.key = key
        self.at = at
        self.revision = revision
        self.caller = None if key is None else _caller_of(key)
        expires = None if key is None else key.expires
        self.expires_at = float("inf") if expires is None else expires.timestamp()
        """Unix seconds."""


def _caller_of(key: CallerKey) -> Caller:
    return Caller(Owner(key.owner, key.owner), by_taximeter_key=True, models=key.models)


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


def is_open_to_keys(path: str) -> bool:
    """Whether a taximeter key may be used on this path, relative to /v1/."""
    return _OPEN_PATHS.fullmatch(path) is not None


class Callers:
    """Identifies callers. Remembers what it learned of taximeter keys, and for how long that counts.

    Invariant: no key is served later than FRESH_SECONDS after it was revoked while the store answers. What is known
    counts while the store's revision stays what it was when it was learned (`looked`).
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        """`clock`: Unix seconds, for what expires."""
        self._store = store
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()  # by the id of a key, which is no secret
        self._asking: dict[str, asyncio.Future[CallerKey | None]] = {}  # by digest: look-ups under way
        self._revision: bytes | None = None
        self._looked_at = float("-inf")

    def looked(self, revision: bytes | None, at: float) -> None:
        """The store's revision, asked for at this time (monotonic seconds)."""
        self._revision, self._looked_at = revision, at

    async def identify(self, headers: Mapping[str, str], path: str, *, require_key: bool, now: float) -> Caller:
        """The caller, or Refused. `now`: monotonic seconds. Waits only for a taximeter key not seen lately."""
        key = presented_key(headers)
        if key is None or not key.startswith(PREFIX):
            if require_key:
                raise replies.invalid_api_key("this proxy serves taximeter keys only: ask its operator for one")
            if key is None:
                return Caller(ANONYMOUS, by_taximeter_key=False)
            return Caller(Owner.of_digest(digest_of(key)), by_taximeter_key=False)
        found = await self._find(digest_of(key), now)
        if found is None:
            raise replies.invalid_api_key("this taximeter key is unknown or was revoked")
        if found.expires is not None and found.is_expired(datetime.fromtimestamp(self._clock(), UTC)):
            raise replies.invalid_api_key(f"this taximeter key expired at {rfc3339(found.expires)}")
        if not is_open_to_keys(path):
            raise replies.path_not_open()
        return _caller_of(found)

    def known(self, digest: str, now: float) -> Caller | None:
        """Who comes with the taximeter key of this digest, where nobody has to be asked; None: see `identify`.

        `now`: monotonic seconds.
        """
        known = self._known.get(digest[:ID_DIGITS])
        if known is None or known.revision != self._revision or not hmac.compare_digest(known.digest, digest):
            return None
        if now - max(known.at, self._looked_at) >= FRESH_SECONDS or known.expires_at <= self._clock():
            return None
        return known.caller

    async def _find(self, digest: str, now: float) -> CallerKey | None:
        known = self._known.get(digest[:ID_DIGITS])
        if known is not None and not hmac.compare_digest(known.digest, digest):
            known = None
        counts_from = float("-inf")
        if known is not None:
            counts_from = max(known.at, self._looked_at) if known.revision == self._revision else known.at
            if known.revision == self._revision and now - counts_from < FRESH_SECONDS:
                return known.key
        try:
            return await self._ask(digest, now)
        except StoreAway:
            if known is not None and known.key is not None and now - counts_from < GRACE_SECONDS:
                return known.key
            raise replies.store_unavailable("this taximeter key cannot be checked: the store is away") from None

    async def _ask(self, digest: str, now: float) -> CallerKey | None:
        """Ask the store and remember the answer: once for all who come with the same key meanwhile."""
        while (asked := self._asking.get(digest)) is not None:
            await asyncio.wait([asked])
            if not asked.cancelled():  # else who asked has left, and the next one asks
                return asked.result()
        revision = self._revision  # from before the question: a change meanwhile makes the answer old
        asked = self._asking[digest] = asyncio.get_running_loop().create_future()
        try:
            key = await self._store.find_key(digest)
        except StoreAway as error:
            asked.set_exception(error)
            asked.exception()  # seen: perhaps nobody else waits
            raise
        else:
            asked.set_result(key)
        finally:
            asked.cancel()  # without effect where there is an answer
            del self._asking[digest]
        self._known[digest[:ID_DIGITS]] = _Known(digest, key, now, revision)
        self._known.move_to_end(digest[:ID_DIGITS])
        if len(self._known) > MAX_CACHED:
            self._known.popitem(last=False)
        return key
