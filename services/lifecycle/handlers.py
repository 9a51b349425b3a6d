"""What other services may ask of lifecycle (`signal.rpc.lifecycle.*`)."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from libs.bus import Bus, fault_of
from libs.clock import Clock
from libs.envelope import Outcome
from libs.errors import ResourceNotFound, ServiceUnavailable
from libs.pg import Pool
from libs.rpc import (
    Accept,
    AcceptedMany,
    AcceptMany,
    AcceptReply,
    AskTime,
    GetMessage,
    Known,
    KnownOutcomes,
    LookUpIdempotency,
    MessageView,
    Now,
    Receipt,
    ReceiptReply,
    Replay,
    Verdict,
)
from libs.subjects import stream_of

from . import queries
from .accept import Acceptor
from .reconcile import passed
from .record import Facts, Recorder
from .views import Views

_OUTCOMES_WAIT_SECONDS = 8.0


class Handlers:
    def __init__(
        self, pool: Pool, bus: Bus, acceptor: Acceptor, recorder: Recorder, views: Views, clock: Clock
    ) -> None:
        self._pool = pool
        self._bus = bus
        self._acceptor = acceptor
        self._recorder = recorder
        self._views = views
        self._clock = clock

    def verbs(self) -> dict[str, tuple[type[msgspec.Struct], Callable[[Any], Awaitable[msgspec.Struct]]]]:
        return {
            "accept": (Accept, self.accept),
            "accept_many": (AcceptMany, self.accept_many),
            "replay": (LookUpIdempotency, self.replay),
            "get": (GetMessage, self.get),
            "receipt": (Receipt, self.receipt),
            "known_outcomes": (KnownOutcomes, self.known_outcomes),
            "now": (AskTime, self.now),
        }

    async def accept(self, request: Accept) -> AcceptReply:
        return await self._acceptor.accept(request)

    async def accept_many(self, many: AcceptMany) -> AcceptedMany:
        return AcceptedMany(list(await asyncio.gather(*(self._verdict(request) for request in many.requests))))

    async def _verdict(self, request: Accept) -> Verdict:
        try:
            return Verdict(reply=await self._acceptor.accept(request))
        except Exception as error:
            return Verdict(fault=fault_of("lifecycle.accept_many", error))

    async def replay(self, request: LookUpIdempotency) -> Replay:
        return await self._acceptor.replay(request)

    async def get(self, request: GetMessage) -> MessageView:
        return await self._views.message(request.application_id, request.message_id)

    async def receipt(self, request: Receipt) -> ReceiptReply:
        """`converted` is recorded beside `received`, with the same time: both facts hold."""
        at = int(self._clock.time() * 1000)
        data = {"action": request.action, "actor": request.actor, "data": request.data}
        kinds = ("received", "converted") if request.kind == "converted" else ("received",)
        facts = [
            Outcome(request.message_id, kind, 0, request.action if kind == "converted" else "", at, data=data)
            for kind in kinds
        ]
        recorded = await self._recorder.record("normal", Facts(request.application_id, facts))
        if request.message_id not in recorded:
            raise ResourceNotFound(id=request.message_id)
        found = recorded[request.message_id]
        return ReceiptReply(found.status, found.received_at_ms, found.converted_at_ms)

    async def known_outcomes(self, request: KnownOutcomes) -> Known:
        """Answered only after every OUTCOME stored before the question is committed (R7)."""
        try:
            await asyncio.wait_for(passed(self._bus, stream_of("OUTCOME", request.lane)), _OUTCOMES_WAIT_SECONDS)
        except TimeoutError:
            raise ServiceUnavailable(service="lifecycle", retry_after=1) from None
        async with self._pool.connection() as c:
            return Known(settled=await queries.settled(c, request.attempts))

    async def now(self, _: AskTime) -> Now:
        async with self._pool.connection() as c:
            return Now(unix_ms=await queries.now_ms(c))
