"""The hot path: a request comes in, is admitted, goes upstream, and its answer goes back.

Metered endpoints become an Exchange. Everything else passes through unread; it is counted, and refused only
when it could spend under a budget that is used up.
"""

from datetime import UTC, datetime
from time import monotonic, perf_counter

from proxy.admission import Admission, Rules, mint_entry_id
from proxy.background import Background
from proxy.budgets import Owner
from proxy.config import Secret
from proxy.denials import Denied
from proxy.metering import Endpoint, Reading, endpoint_of
from proxy.server import replies
from proxy.server.caller import Caller, Callers
from proxy.server.desk import Desk
from proxy.server.envelope import Envelope
from proxy.server.gate import Gate
from proxy.server.headers import carries_taximeter_key, to_upstream
from proxy.server.passage import Passage
from proxy.server.paths import Target
from proxy.server.request import Request
from proxy.server.tasks import Tasks
from proxy.server.under_way import UnderWay


class Forwarder:
    """Takes every request of one worker. `rules` is swapped as a whole when the configuration is read again."""

    def __init__(
        self,
        rules: Rules,
        desk: Desk,
        *,
        admission: Admission,
        background: Background,
        callers: Callers,
        tasks: Tasks,
    ) -> None:
        self.rules = rules
        self._under_way = UnderWay()
        self._desk = desk
        self._settlement = desk.settlement
        self._metrics = desk.metrics
        self._admission = admission
        self._background = background
        self._callers = callers
        self._tasks = tasks
        self._gate = Gate(desk, admission, self._under_way, tasks)

    def serve_at_once(self, request: Request) -> bool:
        """Serve a metered request like those that came before it, where nobody has to be asked but the store.

        False: nothing was done, and `serve` has to. Its body must be whole.
        """
        envelope, rules = request.head.memo, self.rules
        if not isinstance(envelope, Envelope) or not envelope.endpoint.metered:
            return False
        caller, digest = envelope.caller, envelope.digest
        if digest is not None:
            caller = self._callers.known(digest, monotonic()) if envelope.is_open_to_keys else None
        elif rules.config.require_key:
            return False
        if caller is None or request.waiting > rules.config.max_body_bytes:
            return False
        started, at = perf_counter(), datetime.now(UTC)
        entry_id = mint_entry_id(at)
        try:
            self._under_way.open.enter(caller.owner, rules.config.max_open_requests_per_owner)
        except replies.Refused as refused:
            self._gate.answer(request, refused, rules, caller.owner.name, None, envelope.endpoint, entry_id)
        else:
            self._gate.admit(request, envelope, caller, rules, request.whole(), entry_id, at, started)
        return True

    async def serve(self, request: Request) -> None:
        """Up to where the request is on its way, waits for the store, or is answered. Its end comes by itself."""
        started, at, rules = perf_counter(), datetime.now(UTC), self.rules
        head = request.head
        entry_id = mint_entry_id(at)
        owner = "anonymous"
        endpoint = endpoint_of("", "")
        entered: Owner | None = None
        try:
            envelope = Envelope.of(head)
            endpoint = envelope.endpoint
            caller = await self._callers.identify(
                head, envelope.target.path, require_key=rules.config.require_key, now=monotonic()
            )
            owner = caller.owner.name
            key = _key_for(rules, caller)
            self._under_way.open.enter(caller.owner, rules.config.max_open_requests_per_owner)
            entered = caller.owner
            if endpoint.metered:
                body = await request.read(rules.config.max_body_bytes)
                entered = None
                self._gate.admit(request, envelope, caller, rules, body, entry_id, at, started)
            else:
                await self._pass(request, endpoint, entry_id, caller, key, envelope.target, rules, at)
                entered = None  # it leaves at its end
        except (Denied, replies.Refused) as refused:
            self._gate.answer(request, refused, rules, owner, None, endpoint, entry_id)
        finally:
            if entered is not None:
                self._under_way.open.leave(entered)

    async def drain(self, seconds: float) -> int:
        """Wait for everything under way, and cut off what is left after `seconds`; how many that were."""
        return await self._under_way.drain(seconds)

    def refused(self, refused: replies.Refused) -> None:
        """Count a request that did not even come to be served."""
        labels = self._settlement.labels(self.rules, "anonymous", None)
        self._metrics.answered(labels, endpoint_of("", "").name, refused.status)

    async def _pass(
        self,
        request: Request,
        endpoint: Endpoint,
        entry_id: str,
        caller: Caller,
        key: Secret | None,
        target: Target,
        rules: Rules,
        at: datetime,
    ) -> None:
        """Forward unread. An upgrade opens a session that may spend, though it is a GET."""
        head = request.head
        if head.upgrade and carries_taximeter_key(head):
            raise replies.path_not_open()
        spends = head.method == "POST" or head.upgrade
        if spends and endpoint.later is None:
            caller.check_model(None, rules.config.models)
        await self._admission.admit_unmetered(rules, entry_id, caller.owner, at, spends=spends)
        lines = to_upstream(
            head,
            identity=endpoint.later is not None,
            upstream_key=key,
            azure=rules.config.provider == "azure",
            upgrade=head.upgrade,
        )
        passage = Passage(
            request,
            endpoint,
            entry_id,
            labels=self._settlement.labels(rules, caller.owner.name, None),
            metrics=self._metrics,
            collect=lambda reading: self._collect(rules, reading),
            over=self._under_way.over,
        )
        self._under_way.start(passage, caller.owner)
        passage.send(self._desk.upstream, target.tail, lines, at_origin=target.at_origin)

    def _collect(self, rules: Rules, reading: Reading) -> None:
        """A background response that has ended is charged now, whoever asked for it."""
        self._tasks.start(self._background.collect(rules, reading), name="background response")


def _key_for(rules: Rules, caller: Caller) -> Secret | None:
    if not caller.by_taximeter_key:
        return None
    if rules.config.upstream_key is None:
        raise replies.upstream_key_missing(rules.config.upstream_key_env)
    return rules.config.upstream_key
