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
    Cancelled,
    CancelMessage,
    Empty,
    ExportMessages,
    ForgetSubjects,
    GetMessage,
    Known,
    KnownOutcomes,
    ListBreakers,
    ListMessages,
    LookUpIdempotency,
    MessagePage,
    MessagesExport,
    MessageView,
    Now,
    OpenBreakers,
    Receipt,
    ReceiptReply,
    Remember,
    Replay,
    ReportBreaker,
    Rescheduled,
    RescheduleMessage,
    ResendMany,
    ResendMessage,
    Resent,
    ResentMany,
    ReserveSends,
    SendsReserved,
    Verdict,
)
from libs.subjects import stream_of

from . import queries, queries_accept
from .accept import Acceptor
from .breakers import Breakers
from .caps import Caps
from .control import Control
from .export import Exporter
from .forget import Forgetter
from .listing import Listing
from .reconcile import passed
from .record import Facts, Recorder
from .resend import Resender
from .schedule import Rescheduler
from .seals import Seals
from .views import Views

_OUTCOMES_WAIT_SECONDS = 8.0


class Handlers:
    def __init__(
        self,
        pool: Pool,
        bus: Bus,
        acceptor: Acceptor,
        recorder: Recorder,
        views: Views,
        clock: Clock,
        control: Control,
        exporter: Exporter,
        seals: Seals,
        forgetter: Forgetter,
        breakers: Breakers,
        rescheduler: Rescheduler,
        resender: Resender,
        caps: Caps,
    ) -> None:
        self._pool = pool
        self._bus = bus
        self._acceptor = acceptor
        self._recorder = recorder
        self._views = views
        self._clock = clock
        self._control = control
        self._listing = Listing(pool)
        self._seals = seals
        self._exporter = exporter
        self._forgetter = forgetter
        self._breakers = breakers
        self._rescheduler = rescheduler
        self._resender = resender
        self._caps = caps

    def verbs(self) -> dict[str, tuple[type[msgspec.Struct], Callable[[Any], Awaitable[msgspec.Struct]]]]:
        return {
            "accept": (Accept, self.accept),
            "accept_many": (AcceptMany, self.accept_many),
            "replay": (LookUpIdempotency, self.replay),
            "remember": (Remember, self.remember),
            "get": (GetMessage, self.get),
            "list": (ListMessages, self.page),
            "cancel": (CancelMessage, self.cancel),
            "reschedule": (RescheduleMessage, self.reschedule),
            "resend": (ResendMessage, self.resend),
            "resend_many": (ResendMany, self.resend_many),
            "reserve_sends": (ReserveSends, self.reserve_sends),
            "export": (ExportMessages, self.export),
            "forget": (ForgetSubjects, self.forget),
            "receipt": (Receipt, self.receipt),
            "known_outcomes": (KnownOutcomes, self.known_outcomes),
            "now": (AskTime, self.now),
            "report_breaker": (ReportBreaker, self.report_breaker),
            "breakers": (ListBreakers, self.breakers),
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

    async def remember(self, request: Remember) -> Replay:
        return await self._acceptor.remember(request)

    async def page(self, request: ListMessages) -> MessagePage:
        return await self._listing.page(request)

    async def cancel(self, request: CancelMessage) -> Cancelled:
        return await self._control.cancel(request)

    async def reschedule(self, request: RescheduleMessage) -> Rescheduled:
        return await self._rescheduler.reschedule(request)

    async def resend(self, request: ResendMessage) -> Resent:
        return await self._resender.resend(request)

    async def resend_many(self, request: ResendMany) -> ResentMany:
        return await self._resender.resend_many(request)

    async def reserve_sends(self, request: ReserveSends) -> SendsReserved:
        return await self._caps.reserve(request)

    async def export(self, request: ExportMessages) -> MessagesExport:
        return await self._exporter.page(request)

    async def forget(self, request: ForgetSubjects) -> Empty:
        return await self._forgetter.forget(request)

    async def get(self, request: GetMessage) -> MessageView:
        return await self._views.message(request.application_id, request.message_id)

    async def receipt(self, request: Receipt) -> ReceiptReply:
        """`converted` is recorded beside `received`, with the same time: both facts hold.

        What the app attached to a conversion is personal: it is sealed like the content.
        """
        at = int(self._clock.time() * 1000)
        data = {"action": request.action, "actor": request.actor}
        attached = None
        if request.data:
            attached = await self._seals.attach(
                request.application_id, request.message_id, request.action, request.data
            )
        kinds = ("received", "converted") if request.kind == "converted" else ("received",)
        facts = [
            Outcome(request.message_id, kind, 0, request.action if kind == "converted" else "", at, data=data)
            for kind in kinds
        ]
        told = Facts(request.application_id, facts, request.subscription_id, attached)
        recorded = await self._recorder.record("normal", told)
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
        async with self._pool.of(request.lane).connection() as c:
            return Known(settled=await queries.settled(c, request.attempts))

    async def now(self, _: AskTime) -> Now:
        async with self._pool.connection() as c:
            return Now(unix_ms=await queries_accept.now_ms(c))

    async def report_breaker(self, request: ReportBreaker) -> Empty:
        return await self._breakers.report(request)

    async def breakers(self, request: ListBreakers) -> OpenBreakers:
        return await self._breakers.list(request)
