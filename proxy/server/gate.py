"""The gate: a metered request is admitted and sent, or waits for the store's word, or is refused."""

import asyncio
import logging
from collections.abc import Awaitable
from datetime import datetime
from functools import partial

from msgspec.structs import replace

from proxy.admission import Admission, Admitted, Rules
from proxy.denials import Denied
from proxy.errors import JournalFailed, StoreAway
from proxy.metering import Endpoint, RequestFacts, ask_for_usage, read_request
from proxy.metering.lenient_json import short_name
from proxy.metrics import Labels
from proxy.server import replies
from proxy.server.caller import Caller
from proxy.server.desk import Desk
from proxy.server.envelope import Envelope
from proxy.server.exchange import Exchange
from proxy.server.request import Request
from proxy.server.tasks import Tasks
from proxy.server.under_way import UnderWay
from proxy.store import Refusal

log = logging.getLogger("taximeter")


class Gate:
    """Every metered request of a worker comes through here, once its body is whole and its caller known."""

    def __init__(self, desk: Desk, admission: Admission, under_way: UnderWay, tasks: Tasks) -> None:
        self._desk = desk
        self._settlement = desk.settlement
        self._metrics = desk.metrics
        self._admission = admission
        self._under_way = under_way
        self._tasks = tasks
        self._deciding: dict[Exchange, asyncio.Task[None]] = {}

    def admit(
        self,
        request: Request,
        envelope: Envelope,
        caller: Caller,
        rules: Rules,
        body: bytes,
        entry_id: str,
        at: datetime,
        started: float,
    ) -> None:
        """A metered request that has entered is sent, or waits for the store's word, or is refused and leaves."""
        owner, endpoint = caller.owner, envelope.endpoint
        asked: str | None = None
        try:
            beginning = envelope.beginning(request.head, rules, self._desk.upstream)
            facts = read_request(endpoint, body if envelope.is_plain else b"")
            if envelope.target.deployment is not None:
                facts = _of_deployment(rules, envelope.target.deployment, facts)
            asked = facts.model
            caller.check_model(asked, rules.config.models)
            admitted = self._admission.prepare(
                rules,
                entry_id,
                owner,
                facts,
                at,
                endpoint=endpoint.name,
                client_request_id=envelope.client_request_id,
            )
            asking = None
            if endpoint.usage_on_request and facts.stream and not facts.include_usage and envelope.is_plain:
                asking = ask_for_usage(body)
            exchange = Exchange(
                self._desk,
                self,
                request,
                envelope,
                facts,
                admitted,
                beginning=beginning,
                body=asking or body,
                hide_usage=asking is not None,
                started=started,
            )
        except (Denied, replies.Refused) as refused:
            self._under_way.open.leave(owner)
            self.answer(request, refused, rules, owner.name, asked, endpoint, entry_id)
            return
        except BaseException:
            self._under_way.open.leave(owner)
            raise
        self._under_way.start(exchange, owner)
        if not admitted.waits:
            self._pass_unasked(exchange)
        elif (away := self._admission.ask(admitted, exchange)) is not None:
            self._decide(exchange, away, None)

    def _pass_unasked(self, exchange: Exchange) -> None:
        """No budget refuses it: its hold travels along."""
        try:
            opening = self._settlement.open(exchange.admitted)
        except JournalFailed as error:
            self._settlement.release(exchange.admitted)
            self._refuse(exchange, replies.journal_failed(error))
            return
        if opening is None:
            exchange.send()
        else:
            self._decide(exchange, None, opening)

    # --- called by an exchange ---

    def over(self, exchange: Exchange) -> None:
        """Once: nothing is to come any more but perhaps a count of tokens."""
        self._under_way.over(exchange)

    def not_held(self, exchange: Exchange, answer: Refusal | StoreAway | JournalFailed) -> None:
        """The money was not set aside, or nothing could be journalled: that has to be decided."""
        self._decide(exchange, answer, None)

    def withdrawn(self, exchange: Exchange) -> None:
        """It will not be sent, for nobody waits for it any more; `over` follows."""
        deciding = self._deciding.pop(exchange, None)
        if deciding is not None:
            deciding.cancel()
        else:
            self._admission.give_up(exchange.admitted)

    def _decide(
        self,
        exchange: Exchange,
        answer: Refusal | StoreAway | JournalFailed | None,
        opening: Awaitable[None] | None,
    ) -> None:
        task = self._tasks.start(self._decided(exchange, answer, opening), name="admission")
        self._deciding[exchange] = task

    async def _decided(
        self,
        exchange: Exchange,
        answer: Refusal | StoreAway | JournalFailed | None,
        opening: Awaitable[None] | None,
    ) -> None:
        """What becomes of an exchange that the store did not simply let pass."""
        refused: Denied | replies.Refused
        if isinstance(answer, JournalFailed):
            del self._deciding[exchange]
            self._refuse(exchange, replies.journal_failed(answer))
            return
        try:
            if answer is not None:
                envelope, facts = exchange.envelope, exchange.facts
                body = exchange.body if facts.body_is_json else b""
                count = partial(self._desk.counting.prompt_tokens, envelope.endpoint.name, body)
                exchange.admitted = await self._admission.decide(exchange.admitted, facts, answer, count)
            await self._journal(exchange.admitted, opening)
        except (Denied, replies.Refused) as error:
            refused = error
        except Exception:
            log.exception("internal fault in admitting a request")
            refused = replies.internal_fault()
        else:
            del self._deciding[exchange]
            exchange.send()
            return
        del self._deciding[exchange]
        self._refuse(exchange, refused)

    async def _journal(self, admitted: Admitted, opening: Awaitable[None] | None) -> None:
        """No byte goes upstream before the journal has the request. Raises Refused when it cannot."""
        try:
            opening = opening or self._settlement.open(admitted)
            if opening is not None:
                await opening
        except JournalFailed as error:
            self._settlement.release(admitted)
            raise replies.journal_failed(error) from error
        except BaseException:
            self._settlement.release(admitted)
            raise

    def _refuse(self, exchange: Exchange, refused: Denied | replies.Refused) -> None:
        """An exchange that was not sent."""
        admitted = exchange.admitted
        labels = self._settlement.labels(admitted.rules, admitted.owner.name, admitted.asked_model)
        exchange.refuse(self._counted(refused, labels, exchange.envelope.endpoint))

    def answer(
        self,
        request: Request,
        refused: Denied | replies.Refused,
        rules: Rules,
        owner: str,
        asked: str | None,
        endpoint: Endpoint,
        entry_id: str,
    ) -> None:
        """Refuse a request that was not admitted."""
        request.refuse(self._counted(refused, self._settlement.labels(rules, owner, asked), endpoint), entry_id)

    def _counted(self, refused: Denied | replies.Refused, labels: Labels, endpoint: Endpoint) -> replies.Refused:
        """A refusal as its client gets it."""
        if isinstance(refused, Denied):
            if refused.budget is not None:
                self._metrics.refused(refused.budget, refused.reason)
            refused = replies.denied(refused)
        self._metrics.answered(labels, endpoint.name, refused.status)
        return refused


def _of_deployment(rules: Rules, deployment: str, facts: RequestFacts) -> RequestFacts:
    """A deployment's name is the model asked where the body names none, or where the configuration says what it is.

    Azure itself never looks at the body's model when the path names a deployment.
    """
    if facts.model is None or deployment in rules.config.models:
        return replace(facts, model=short_name(deployment))
    return facts
