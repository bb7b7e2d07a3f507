"""What follows from a request's head alone, worked out once for all requests that share it (`proxy.http1.alike`)."""

from proxy.admission import Rules
from proxy.budgets import ANONYMOUS, Owner
from proxy.http1 import RequestHead
from proxy.metering import Endpoint, endpoint_of
from proxy.server import replies
from proxy.server.caller import Caller, is_open_to_keys, presented_key
from proxy.server.headers import to_upstream
from proxy.server.paths import Target, target_of
from proxy.store.caller_keys import PREFIX, digest_of
from proxy.upstream import Upstream


class Envelope:
    """Where a request goes, who its key says it is from, and what its head becomes upstream."""

    __slots__ = (
        "_beginning", "_rules", "caller", "client_request_id", "digest", "endpoint", "is_open_to_keys", "is_plain",
        "target",
    )  # fmt: skip

    def __init__(self, head: RequestHead) -> None:
        """Raises Refused for a path that is not ours."""
        target: Target = target_of(head.target)
        self.target = target
        self.endpoint: Endpoint = endpoint_of(head.method, target.unquoted or target.path)
        encoding = head.raw(b"content-encoding")
        self.is_plain = encoding is None or encoding.lower() == b"identity"
        """The body can be read and written as it stands."""
        self.client_request_id = head.get("x-client-request-id")
        key = presented_key(head)
        self.digest: str | None = None
        """SHA-256 (hex) of the taximeter key; None: the caller came without one."""
        self.caller: Caller | None = None
        """Who came with a key of their own, or with none."""
        if key is None:
            self.caller = Caller(ANONYMOUS, by_taximeter_key=False)
        elif key.startswith(PREFIX):
            self.digest = digest_of(key)
        else:
            self.caller = Caller(Owner.of_digest(digest_of(key)), by_taximeter_key=False)
        self.is_open_to_keys = is_open_to_keys(target.path)
        self._rules: Rules | None = None
        self._beginning = b""

    @classmethod
    def of(cls, head: RequestHead) -> "Envelope":
        """The one that was made of this head, or a new one. Raises Refused."""
        found = head.memo
        if isinstance(found, Envelope):
            return found
        made = head.memo = cls(head)
        return made

    def beginning(self, head: RequestHead, rules: Rules, upstream: Upstream) -> bytes:
        """The upstream's head of a metered request, up to what frames its body. Raises Refused without a key for it.

        `head`: the one that this was made of. It is not kept here, for it keeps this.
        """
        if self._rules is not rules:
            config = rules.config
            key = None
            if self.digest is not None:
                key = config.upstream_key
                if key is None:
                    raise replies.upstream_key_missing(config.upstream_key_env)
            lines = to_upstream(head, identity=True, upstream_key=key, azure=config.provider == "azure")
            target = self.target
            self._beginning = upstream.beginning(head.method, target.tail, lines, at_origin=target.at_origin)
            self._rules = rules
        return self._beginning
