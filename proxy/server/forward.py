"""The hot path: a request comes in, is admitted, goes upstream, and its answer goes back.

Metered endpoints become an Exchange. Everything else passes through unread; it is counted, and refused only
when it could spend under a budget that is used up.
"""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from time import monotonic, perf_counter

from msgspec.structs import replace

from proxy.admission import Admission, Admitted, Rules, mint_entry_id
from proxy.background import Background
from proxy.budgets import Owner
from proxy.config import Secret
from proxy.deadlines import Deadlines
from proxy.denials import Denied
from proxy.errors import JournalFailed
from proxy.http1 import RequestHead
from proxy.metering import Endpoint, Reading, RequestFacts, ask_for_usage, endpoint_of, read_request
from proxy.metering.lenient_json import short_name
from proxy.metrics import Metrics
from proxy.server import replies
from proxy.server.caller import Caller, Callers
from proxy.server.counting import Counting
from proxy.server.exchange import Exchange
from proxy.server.headers import carries_taximeter_key, to_upstream
from proxy.server.open_requests import OpenRequests
from proxy.server.passage import Passage
from proxy.server.paths import Target, target_of
from proxy.server.request import Request
from proxy.server.tasks import Tasks
from proxy.settlement import Settlement
from proxy.upstream import Upstream


class Forwarder:
    """Takes every request of one worker. `rules` is swapped as a whole when the configuration is read again."""

    def __init__(
        self,
        rules: Rules,
        *,
        upstream: Upstream,
        admission: Admission,
        settlement: Settlement,
        counting: Counting,
        background: Background,
        callers: Callers,
        metrics: Metrics,
        tasks: Tasks,
        deadlines: Deadlines,
    ) -> None:
        self.rules = rules
        self._upstream = upstream
        self._admission = admission
        self._settlement = settlement
        self._counting = counting
        self._background = background
        self._callers = callers
        self._metrics = metrics
        self._tasks = tasks
        self._deadlines = deadlines
        self._open = OpenRequests()
        # What is on its way upstream, and whose it is. It is kept alive here.
        self._under_way: dict[Exchange | Passage, Owner] = {}
        self._idle = asyncio.Event()

    async def serve(self, request: Request) -> None:
        """Up to where the request is on its way, or answered. Its end comes by itself."""
        started, at, rules = perf_counter(), datetime.now(UTC), self.rules
        head = request.head
        entry_id = mint_entry_id(at)
        asked: str | None = None
        owner = "anonymous"
        endpoint = endpoint_of("", "")
        entered: Owner | None = None
        try:
            target = target_of(head.target)
            endpoint = endpoint_of(head.method, target.unquoted or target.path)
            caller = await self._callers.identify(
                head, target.path, require_key=rules.config.require_key, now=monotonic()
            )
            owner = caller.owner.name
            key = _key_for(rules, caller)
            self._open.enter(caller.owner, rules.config.max_open_requests_per_owner)
            entered = caller.owner
            if not endpoint.metered:
                await self._pass(request, endpoint, entry_id, caller, key, target, rules, at)
            else:
                body = await request.read(rules.config.max_body_bytes)
                facts = _facts(rules, target, read_request(endpoint, body if _is_plain(head) else b""))
                asked = facts.model
                caller.check_model(asked, rules.config.models)
                admitted = await self._admission.admit(
                    rules,
                    entry_id,
                    caller.owner,
                    facts,
                    at,
                    endpoint=endpoint.name,
                    client_request_id=head.get("x-client-request-id"),
                    count=partial(self._counting.prompt_tokens, endpoint.name, body if facts.body_is_json else b""),
                )
                await self._journal(admitted)
                self._exchange(request, endpoint, facts, admitted, key, target, body, started)
            entered = None  # it leaves at its end
        except Denied as denial:
            if denial.budget is not None:
                self._metrics.refused(denial.budget, denial.reason)
            self._answer(request, replies.denied(denial), rules, owner, asked, endpoint, entry_id)
        except replies.Refused as refused:
            self._answer(request, refused, rules, owner, asked, endpoint, entry_id)
        finally:
            if entered is not None:
                self._open.leave(entered)

    def refused(self, refused: replies.Refused) -> None:
        """Count a request that did not even come to be served."""
        labels = self._settlement.labels(self.rules, "anonymous", None)
        self._metrics.answered(labels, endpoint_of("", "").name, refused.status)

    async def drain(self, seconds: float) -> int:
        """Wait for everything under way, and cut off what is left after `seconds`; how many that were."""
        if self._under_way:
            self._idle.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._idle.wait()
        late = tuple(self._under_way)
        for each in late:
            each.cut()
        return len(late)

    async def _journal(self, admitted: Admitted) -> None:
        """No byte goes upstream before the journal has the request. Raises Refused when it cannot."""
        try:
            if (opening := self._settlement.open(admitted)) is not None:
                await opening
        except JournalFailed as error:
            self._settlement.release(admitted)
            raise replies.journal_failed(error) from error
        except BaseException:
            self._settlement.release(admitted)
            raise

    def _exchange(
        self,
        request: Request,
        endpoint: Endpoint,
        facts: RequestFacts,
        admitted: Admitted,
        key: Secret | None,
        target: Target,
        body: bytes,
        started: float,
    ) -> None:
        asking = None
        if endpoint.usage_on_request and facts.stream and not facts.include_usage and _is_plain(request.head):
            asking = ask_for_usage(body)
        exchange = Exchange(
            request,
            endpoint,
            facts,
            admitted,
            hide_usage=asking is not None,
            settlement=self._settlement,
            counting=self._counting,
            metrics=self._metrics,
            deadlines=self._deadlines,
            started=started,
            over=self._over,
        )
        lines = to_upstream(
            request.head, identity=True, upstream_key=key, azure=admitted.rules.config.provider == "azure"
        )
        self._under_way[exchange] = admitted.owner
        exchange.send(self._upstream, target.tail, lines, asking or body, at_origin=target.at_origin)

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
            over=self._over,
        )
        self._under_way[passage] = caller.owner
        passage.send(self._upstream, target.tail, lines, at_origin=target.at_origin)

    def _over(self, ended: Exchange | Passage) -> None:
        self._open.leave(self._under_way.pop(ended))
        if not self._under_way:
            self._idle.set()

    def _collect(self, rules: Rules, reading: Reading) -> None:
        """A background response that has ended is charged now, whoever asked for it."""
        self._tasks.start(self._background.collect(rules, reading), name="background response")

    def _answer(
        self,
        request: Request,
        refused: replies.Refused,
        rules: Rules,
        owner: str,
        asked: str | None,
        endpoint: Endpoint,
        entry_id: str,
    ) -> None:
        self._metrics.answered(self._settlement.labels(rules, owner, asked), endpoint.name, refused.status)
        request.refuse(refused, entry_id)


def _facts(rules: Rules, target: Target, facts: RequestFacts) -> RequestFacts:
    """A deployment's name is the model asked where the body names none, or where the configuration says what it is.

    Azure itself never looks at the body's model when the path names a deployment.
    """
    deployment = target.deployment
    if deployment is not None and (facts.model is None or deployment in rules.config.models):
        return replace(facts, model=short_name(deployment))
    return facts


def _key_for(rules: Rules, caller: Caller) -> Secret | None:
    if not caller.by_taximeter_key:
        return None
    if rules.config.upstream_key is None:
        raise replies.upstream_key_missing(rules.config.upstream_key_env)
    return rules.config.upstream_key


def _is_plain(head: RequestHead) -> bool:
    """Whether the body can be read and written as it stands."""
    encoding = head.raw(b"content-encoding")
    return encoding is None or encoding.lower() == b"identity"
