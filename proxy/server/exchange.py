"""One attempt: a request goes upstream once, its answer is relayed and read, and it ends in exactly one reading.

The exchange is a task of its own, so that a client that leaves cannot take the reading with it. Who leaves a stream
stops the upstream; who leaves a whole reply lets it be read on for `drain_seconds`: it is paid for in any case.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter

from aiohttp import web
from multidict import CIMultiDict

from proxy.admission import Admitted
from proxy.errors import JournalFailed, UpstreamError, UpstreamTooSlow
from proxy.metering import Ending, Endpoint, Meter, Reading, RequestFacts
from proxy.metrics import Metrics
from proxy.server import replies
from proxy.server.counting import Counting
from proxy.server.headers import to_client
from proxy.settlement import Settled, Settlement, served_id
from proxy.upstream import Answer, Sending, Upstream
from rates.money import usd_text

# Up to here a JSON reply is kept until it is priced, so that its cost can stand in its head.
MAX_PRICED_REPLY = 4 * 1024 * 1024
# Seconds that a JSON reply waits for a count of what the upstream did not say; then it has no cost in its head.
COUNTING_SECONDS = 1.0
CLIENT_GONE = 499


class Relayed(web.StreamResponse):
    """A reply with the upstream's head: what the framework would add by itself is taken out again (see `bare`)."""

    def __init__(self, answer: Answer, headers: CIMultiDict[str]) -> None:
        super().__init__(status=answer.status, reason=answer.reason, headers=headers)
        self.given = frozenset(name.lower() for name in headers)


async def bare(_request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Hook before a head is sent: no Server, Date or Content-Type that the upstream did not send."""
    if isinstance(response, Relayed):
        for name in ("Server", "Date", "Content-Type"):
            if name.lower() not in response.given:
                response.headers.pop(name, None)


class Exchange:
    """A metered attempt from its first upstream byte to its settlement."""

    def __init__(
        self,
        request: web.Request,
        endpoint: Endpoint,
        facts: RequestFacts,
        admitted: Admitted,
        *,
        hide_usage: bool,
        settlement: Settlement,
        counting: Counting,
        metrics: Metrics,
        started: float,
    ) -> None:
        self._request = request
        self._endpoint = endpoint
        self._facts = facts
        self._admitted = admitted
        self._settlement = settlement
        self._counting = counting
        self._metrics = metrics
        self._started = started
        self._hide_usage = hide_usage
        self._meter = Meter(endpoint, facts, hide_usage=hide_usage)
        self._answer: Answer | None = None
        self._client_gone = False
        self._request_body = b""
        self._latency_ms = 0
        self._count: asyncio.Task[None] | None = None
        self._settled: Settled | None = None
        self._response: Relayed | None = None
        self._status: int | None = None
        loop = asyncio.get_running_loop()
        self._lifetime = admitted.rules.config.max_request_seconds
        self._ends_at = loop.time() + self._lifetime - (perf_counter() - started)

    def client_left(self, task: asyncio.Task[web.StreamResponse], drain_seconds: float) -> None:
        """The client hung up: a stream ends now, a whole reply may still be read to its end."""
        self._client_gone = True
        streaming = self._meter.is_stream if self._answer is not None else self._facts.stream
        if streaming:
            task.cancel()
        else:
            timer = asyncio.get_running_loop().call_later(drain_seconds, task.cancel)
            task.add_done_callback(lambda _: timer.cancel())

    async def run(self, upstream: Upstream, tail: str, headers: CIMultiDict[str], body: bytes) -> web.StreamResponse:
        """Send, relay, read; always settle what reached the upstream."""
        sending = Sending()
        self._request_body = body
        sent = perf_counter()
        ending = Ending.NO_STATUS
        try:
            try:
                async with self._in_time():
                    if (opening := self._settlement.open(self._admitted)) is not None:
                        await opening
                    answer = await upstream.send(self._request.method, tail, headers, body, sending)
            except (UpstreamError, JournalFailed) as error:
                refused = replies.not_sent(error)
                self._status = refused.status
                return refused.response(self._admitted.entry_id)
            self._answer = answer
            self._meter.start(answer.status, answer.content_type, answer.content_encoding)
            ending = Ending.CLIENT_LEFT  # unless it comes to its end
            try:
                async with self._in_time():
                    await self._relay(answer, sent)
                ending = Ending.COMPLETE
            except UpstreamError:
                ending = Ending.BROKEN
                await self._break_off()
            except ConnectionError:
                self._client_gone = True
            return self._response or web.Response(status=CLIENT_GONE)  # a client that is gone reads neither
        finally:
            self._metrics.upstream.observe(perf_counter() - sent)
            if self._answer is not None:
                self._answer.close()
            if self._settled is None and self._count is None and sending.began:
                self._end(Ending.CLIENT_LEFT if self._client_gone else ending)
            if self._count is None or self._count.done():
                self._finish()
            else:
                self._count.add_done_callback(lambda _: self._finish())

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        """What takes longer than a request may is cut off, as if the upstream had gone silent."""
        try:
            async with asyncio.timeout_at(self._ends_at) as lifetime:
                yield
        except TimeoutError:
            if not lifetime.expired():
                raise
            raise UpstreamTooSlow(
                f"the request took longer than {self._lifetime:g} s (max_request_seconds)", sent=True
            ) from None

    async def _relay(self, answer: Answer, sent: float) -> None:
        kind = answer.content_type.partition(";")[0].strip().lower()
        if kind == "application/json" or kind.endswith("+json"):
            await self._relay_whole(answer, sent)
        else:
            await self._relay_flow(answer, sent)

    async def _relay_whole(self, answer: Answer, sent: float) -> None:
        """Keep a reply of ordinary size until it is priced; a larger one flows, without its cost in the head."""
        kept: list[bytes] = []
        size = 0
        chunks = answer.chunks()
        try:
            async for chunk in chunks:
                kept.append(self._meter.feed(chunk))
                size += len(chunk)
                if size > MAX_PRICED_REPLY:
                    break
        except UpstreamError:
            # The client gets what it would have got: the head, the part, and a broken connection.
            await (await self._open(answer)).write(b"".join(kept))
            raise
        ended = perf_counter()
        if size > MAX_PRICED_REPLY:
            await self._relay_large(answer, kept, chunks)
            return
        self._end(Ending.COMPLETE)
        if self._count is not None:
            await asyncio.wait((self._count,), timeout=COUNTING_SECONDS)
        response = await self._open(answer, cost=self._settled.entry.cost_nanos if self._settled else None)
        if kept:
            await response.write(b"".join(kept))
        await response.write_eof()
        self._metrics.overhead.observe((sent - self._started) + (perf_counter() - ended))

    async def _relay_large(self, answer: Answer, kept: list[bytes], rest: AsyncIterator[bytes]) -> None:
        response = await self._open(answer)
        await response.write(b"".join(kept))
        async for chunk in rest:
            self._meter.feed(chunk)
            if not self._client_gone:
                try:
                    await response.write(chunk)
                except ConnectionError:
                    self._client_gone = True  # read on: what remains is paid for
        self._end(Ending.COMPLETE)
        if not self._client_gone:
            await response.write_eof()

    async def _relay_flow(self, answer: Answer, sent: float) -> None:
        """Bytes go out as they come in: nothing is kept back, but for what the client did not ask for."""
        self._metrics.open_streams.inc()
        try:
            response = await self._open(answer)
            first = True
            async for chunk in answer.chunks():
                came = perf_counter()
                visible = self._meter.feed(chunk)
                if visible:
                    await response.write(visible)
                if first:
                    first = False
                    now = perf_counter()
                    self._metrics.first_token.observe(now - self._started)
                    self._metrics.overhead.observe((sent - self._started) + (now - came))
            await self._write_tail(response)
            self._end(Ending.COMPLETE)  # before the last byte: it may fail, the reading is whole
            await response.write_eof()
        finally:
            self._metrics.open_streams.dec()

    async def _open(self, answer: Answer, *, cost: int | None = None) -> Relayed:
        """Send the reply's head. Raises ConnectionError when nobody is there to read it."""
        if self._client_gone:
            raise ConnectionResetError("the client left")
        hidden = self._hide_usage and self._meter.is_stream
        headers = to_client(answer.raw_headers, keep_length=not hidden, decoded=self._meter.decodes)
        headers["x-taximeter-entry"] = self._admitted.entry_id
        if cost is not None:
            headers["x-taximeter-cost-usd"] = usd_text(cost) or "0"
        self._response = Relayed(answer, headers)
        await self._response.prepare(self._request)
        self._status = answer.status
        return self._response

    async def _write_tail(self, response: Relayed) -> None:
        if rest := self._meter.tail():
            await response.write(rest)

    async def _break_off(self) -> None:
        """The upstream broke off in the middle: so must the reply, or the client would take it for whole."""
        if self._response is not None and not self._client_gone:
            try:
                await self._write_tail(self._response)
            except ConnectionError:
                self._client_gone = True
        if self._request.transport is not None:
            self._request.transport.close()  # what was written is still flushed; no end of the body is written

    def _end(self, ending: Ending) -> None:
        """The one reading: priced at once where the upstream said it, else when its tokens have been counted.

        That is a task of its own: neither a client that leaves nor the end of this exchange can take it away.
        """
        self._latency_ms = round((perf_counter() - self._started) * 1000)
        ended = self._meter.end(ending, self._request_body)
        if isinstance(ended, Reading):
            self._price(ended)
            return
        admitted = self._admitted
        model = served_id(admitted.rules, admitted.asked_model, ended.reading.model)
        self._count = self._counting.start(ended, model, self._price)

    def _price(self, reading: Reading) -> None:
        headers = self._request.headers
        self._settled = self._settlement.charge(
            self._admitted,
            self._endpoint.name,
            reading,
            upstream_status=self._answer.status if self._answer else None,
            client_request_id=headers.get("x-client-request-id"),
            latency_ms=self._latency_ms,
        )

    def _finish(self) -> None:
        """Count the request, and move its money; without an upstream byte there is only its hold to let go."""
        if self._settled is not None:
            self._settlement.settle(self._settled)
            labels = self._settled.labels
        else:
            self._settlement.release(self._admitted)
            labels = self._settlement.labels_of(self._admitted)
        status = CLIENT_GONE if self._client_gone or self._status is None else self._status
        self._metrics.answered(labels, self._endpoint.name, status)
