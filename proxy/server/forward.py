"""The hot path: a request comes in, is admitted, goes upstream, and its answer goes back.

Metered endpoints become an Exchange. Everything else passes through unread; it is counted, and refused only
when it could spend under a budget that is used up.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from time import monotonic, perf_counter

from aiohttp import web

from proxy.admission import Admission, Admitted, Rules, mint_entry_id
from proxy.background import Background
from proxy.budgets import Owner
from proxy.config import Secret
from proxy.denials import Denied
from proxy.errors import UpstreamError
from proxy.metering import Ending, Endpoint, Meter, RequestFacts, ask_for_usage, endpoint_of, read_request
from proxy.metering.lenient_json import short_name
from proxy.metrics import Metrics
from proxy.server import replies
from proxy.server.caller import Caller, Callers
from proxy.server.counting import Counting
from proxy.server.exchange import CLIENT_GONE, Exchange, Relayed
from proxy.server.headers import to_client, to_upstream
from proxy.server.open_requests import OpenRequests
from proxy.server.paths import Target, target_of
from proxy.server.tasks import Tasks
from proxy.settlement import Settlement
from proxy.upstream import Sending, Upstream


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
        self._open = OpenRequests()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        started, at, rules = perf_counter(), datetime.now(UTC), self.rules
        entry_id = mint_entry_id(at)
        asked: str | None = None
        owner = "anonymous"
        endpoint = endpoint_of("", "")
        entered: Owner | None = None
        try:
            target = target_of(request)
            endpoint = endpoint_of(request.method, target.unquoted or target.path)
            caller = await self._callers.identify(
                request.headers, target.path, require_key=rules.config.require_key, now=monotonic()
            )
            owner = caller.owner.name
            key = _key_for(rules, caller)
            self._open.enter(caller.owner, rules.config.max_open_requests_per_owner)
            entered = caller.owner
            if not endpoint.metered:
                return await self._pass(request, endpoint, entry_id, caller, key, target, rules, at)
            body = await _read_body(request, rules.config.max_body_bytes)
            facts = _facts(rules, target, read_request(endpoint, body if _is_plain(request) else b""))
            asked = facts.model
            caller.check_model(asked, rules.config.models)
            admitted = await self._admission.admit(
                rules,
                entry_id,
                caller.owner,
                facts,
                at,
                endpoint=endpoint.name,
                client_request_id=request.headers.get("x-client-request-id"),
                count=partial(self._counting.prompt_tokens, endpoint.name, body if facts.body_is_json else b""),
            )
            return await self._exchange(request, endpoint, facts, admitted, key, target, body, started)
        except Denied as denial:
            if denial.budget is not None:
                self._metrics.refused(denial.budget, denial.reason)
            return self._answer(replies.denied(denial), rules, owner, asked, endpoint, entry_id)
        except replies.Refused as refused:
            return self._answer(refused, rules, owner, asked, endpoint, entry_id)
        finally:
            if entered is not None:
                self._open.leave(entered)

    async def _exchange(
        self,
        request: web.Request,
        endpoint: Endpoint,
        facts: RequestFacts,
        admitted: Admitted,
        key: Secret | None,
        target: Target,
        body: bytes,
        started: float,
    ) -> web.StreamResponse:
        asking = None
        if endpoint.usage_on_request and facts.stream and not facts.include_usage and _is_plain(request):
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
            started=started,
        )
        headers = to_upstream(
            request.raw_headers, identity=True, upstream_key=key, azure=admitted.rules.config.provider == "azure"
        )
        task = self._tasks.start(exchange.run(self._to(target), target.tail, headers, asking or body), name="exchange")
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            exchange.client_left(task, admitted.rules.config.drain_seconds)
            if not task.done():  # it is open until it ends, whoever has left
                self._open.enter(admitted.owner)
                task.add_done_callback(lambda _: self._open.leave(admitted.owner))
            raise

    async def _pass(
        self,
        request: web.Request,
        endpoint: Endpoint,
        entry_id: str,
        caller: Caller,
        key: Secret | None,
        target: Target,
        rules: Rules,
        at: datetime,
    ) -> web.StreamResponse:
        """Forward: the body flows both ways, and is looked at only where it may end what was accepted before."""
        spends = request.method == "POST"
        if spends and endpoint.later is None:
            caller.check_model(None, rules.config.models)
        await self._admission.admit_unmetered(rules, entry_id, caller.owner, at, spends=spends)
        labels = self._settlement.labels(rules, caller.owner.name, None)
        headers = to_upstream(
            request.raw_headers,
            identity=endpoint.later is not None,
            upstream_key=key,
            azure=rules.config.provider == "azure",
        )
        meter = None if endpoint.later is None else Meter(endpoint, RequestFacts(), hide_usage=False)
        body: AsyncIterator[bytes] | None = None
        if request.body_exists:
            body = request.content.iter_any()
            if request.content_length is not None:
                headers["Content-Length"] = str(request.content_length)
        status = CLIENT_GONE
        try:
            try:
                answer = await self._to(target).send(request.method, target.tail, headers, body, Sending())
            except UpstreamError as error:
                refused = replies.upstream_failed(error)
                status = refused.status
                return refused.response(entry_id)
            if meter is not None:
                meter.start(answer.status, answer.content_type, answer.content_encoding)
            try:
                passed = to_client(answer.raw_headers, keep_length=True, decoded=False)
                passed["x-taximeter-entry"] = entry_id
                response = Relayed(answer, passed)
                await response.prepare(request)
                async for chunk in answer.chunks():
                    if meter is not None:
                        meter.feed(chunk)
                    await response.write(chunk)
                if meter is not None:
                    self._collect(meter, rules)
                await response.write_eof()
                status = answer.status
            except UpstreamError:
                status = answer.status
                if request.transport is not None:
                    request.transport.close()  # broken off there, so broken off here
            except ConnectionError:
                status = CLIENT_GONE
            finally:
                answer.close()
            return response
        finally:
            self._metrics.answered(labels, endpoint.name, status)

    def _collect(self, meter: Meter, rules: Rules) -> None:
        """A background response that has ended is charged now, whoever asked for it."""
        reading = meter.finish(Ending.COMPLETE)
        if meter.ends_background:
            self._tasks.start(self._background.collect(rules, reading), name="background response")

    def _to(self, target: Target) -> Upstream:
        return self._upstream.origin if target.at_origin else self._upstream

    def _answer(
        self,
        refused: replies.Refused,
        rules: Rules,
        owner: str,
        asked: str | None,
        endpoint: Endpoint,
        entry_id: str,
    ) -> web.Response:
        self._metrics.answered(self._settlement.labels(rules, owner, asked), endpoint.name, refused.status)
        return refused.response(entry_id)


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


def _is_plain(request: web.Request) -> bool:
    """Whether the body can be read and written as it stands."""
    return request.headers.get("Content-Encoding", "identity").lower() == "identity"


async def _read_body(request: web.Request, limit: int) -> bytes:
    """The body, whole. Raises Refused when it is larger than `limit` bytes or breaks off."""
    if (request.content_length or 0) > limit:
        raise replies.body_too_large(limit)
    pieces: list[bytes] = []
    size = 0
    try:
        async for piece in request.content.iter_any():
            size += len(piece)
            if size > limit:
                raise replies.body_too_large(limit)
            pieces.append(piece)
    except web.RequestPayloadError as error:
        raise replies.bad_body(f"the request's body cannot be read: {error}") from error
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
