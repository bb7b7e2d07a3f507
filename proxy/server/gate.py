"""The gate: a metered request is admitted and sent, or waits for the store's word, or is refused."""

import asyncio
import logging
from collections.abc import Awaitable, Sequence
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
        self._passing: list[Exchange] = []  # what this turn lets pass
        self._passes = False  # one did in this turn: the others wait for its end
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
            self._decide(exchange, away)

    def _pass_unasked(self, exchange: Exchange) -> None:
        """No budget refuses it: its hold travels along. All that pass so in one turn are journalled with one write.

        But the first stream of a turn does not wait for what else the turn brings: its caller waits for every bit.
        """
        self._passing.append(exchange)
        if not self._passes:
            self._passes = True
            self._desk.loop.call_soon(self._pass_rest)
            if exchange.facts.stream:
                self._pass_all()

    def _pass_rest(self) -> None:
        self._passes = False
        if self._passing:
            self._pass_all()

    def _pass_all(self) -> None:
        gathered, self._passing = self._passing, []
        passing = [exchange for exchange in gathered if not exchange.is_over]  # the others have left meanwhile
        try:
            opening = self._settlement.open([exchange.admitted for exchange in passing])
        except Exception as error:  # noqa: BLE001 - it is answered, and said if it is no JournalFailed
            self._pass_none(passing, error)
            return
        if opening is None:
            _send(passing)
        else:
            self._tasks.start(self._pass_when_opened(passing, opening), name="admission")

    async def _pass_when_opened(self, passing: Sequence[Exchange], opening: Awaitable[None]) -> None:
        try:
            await opening
        except Exception as error:  # noqa: BLE001 - likewise
            self._pass_none(passing, error)
        else:
            _send(passing)

    def _pass_none(self, passing: Sequence[Exchange], error: Exception) -> None:
        """No byte goes upstream before the journal has the request."""
        refused = _refusal(error)
        for exchange in passing:
            if not exchange.is_over:
                self._settlement.release(exchange.admitted)
                self._refuse(exchange, refused)

    # --- called by an exchange ---

    def over(self, exchange: Exchange) -> None:
        """Once: nothing is to come any more but perhaps a count of tokens."""
        self._under_way.over(exchange)

    def not_held(self, exchange: Exchange, answer: Refusal | StoreAway | JournalFailed) -> None:
        """The money was not set aside, or nothing could be journalled."""
        if isinstance(answer, JournalFailed):
            self._refuse(exchange, _refusal(answer))
        else:
            self._decide(exchange, answer)

    def withdrawn(self, exchange: Exchange) -> None:
        """It will not be sent, for nobody waits for it any more; `over` follows."""
        deciding = self._deciding.pop(exchange, None)
        if deciding is not None:
            deciding.cancel()
        else:
            self._admission.give_up(exchange.admitted)

    def _decide(self, exchange: Exchange, answer: Refusal | StoreAway) -> None:
        self._deciding[exchange] = self._tasks.start(self._decided(exchange, answer), name="admission")

    async def _decided(self, exchange: Exchange, answer: Refusal | StoreAway) -> None:
        """What becomes of an exchange that the store did not simply let pass."""
        envelope, facts = exchange.envelope, exchange.facts
        body = exchange.body if facts.body_is_json else b""
        count = partial(self._desk.counting.prompt_tokens, envelope.endpoint.name, body)
        try:
            exchange.admitted = await self._admission.decide(exchange.admitted, facts, answer, count)
            await self._journal(exchange.admitted)
        except Exception as error:  # noqa: BLE001 - likewise
            del self._deciding[exchange]
            self._refuse(exchange, _refusal(error))
        else:
            del self._deciding[exchange]
            exchange.send()

    async def _journal(self, admitted: Admitted) -> None:
        """No byte goes upstream before the journal has the request."""
        try:
            if (opening := self._settlement.open([admitted])) is not None:
                await opening
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


def _refusal(error: Exception) -> Denied | replies.Refused:
    """What a client is told of why its request was not sent; a fault of ours is said in the log too."""
    if isinstance(error, (Denied, replies.Refused)):
        return error
    if isinstance(error, JournalFailed):
        return replies.journal_failed(error)
    log.error("internal fault in admitting a request", exc_info=error)
    return replies.internal_fault()


def _send(passing: Sequence[Exchange]) -> None:
    for exchange in passing:
        if not exchange.is_over:
            exchange.send()


def _of_deployment(rules: Rules, deployment: str, facts: RequestFacts) -> RequestFacts:
    """A deployment's name is the model asked where the body names none, or where the configuration says what it is.

    Azure itself never looks at the body's model when the path names a deployment.
    """
    if facts.model is None or deployment in rules.config.models:
        return replace(facts, model=short_name(deployment))
    return facts
