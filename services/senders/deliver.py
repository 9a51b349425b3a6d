"""The pipeline that all channels share: one envelope of SEND becomes provider calls and outcomes."""

import asyncio
import itertools
import os
from collections.abc import Iterable, Iterator

import msgspec

from libs import telemetry
from libs.bus import Bus
from libs.cancellation import being_cancelled
from libs.clock import Clock, ReferenceClock
from libs.consume import Abandoned, Held
from libs.envelope import Closing, Delivery, Lane, Outcome, SendEnvelope, encode
from libs.errors import ServiceUnavailable, SignalError
from libs.rpc import Credential, Known, KnownOutcomes, Stop
from libs.stops import StopBoard

from .accounts import CredentialFault
from .admission import Admission, Entry
from .breaker import BreakerBoard
from .contract import Postponed, Result, Sender, TryLater
from .credential_cache import CredentialCache
from .judge import Judge
from .outstanding import Call, Outstanding
from .parking import ParkingConsumer
from .rate import Rates
from .report import Reporter
from .settings import Sender as SenderSettings

_KNOWN_TIMEOUT = 10.0
_REMEMBERED = 1_000
_Attempt = tuple[str, int]
"""A message and its attempt."""
_log = telemetry.logger("deliver")


class Work(msgspec.Struct, eq=False):
    """One envelope under way."""

    entry: Entry
    credential: Credential | CredentialFault
    done: asyncio.Event
    unreported: int = 1
    """Outcomes; and one more for as long as others may follow."""


class Pipeline:
    """One lane of one channel for the deliveries of one region: its own consumer, callers and budget (R10)."""

    def __init__(
        self,
        bus: Bus,
        sender: Sender,
        credentials: CredentialCache,
        breakers: BreakerBoard,
        stops: StopBoard,
        clock: Clock,
        reference: ReferenceClock,
        lane: Lane,
        region: str,
        settings: SenderSettings,
        rates: Rates,
    ) -> None:
        self._lane = lane
        self._bus = bus
        self._sender = sender
        self._credentials = credentials
        self._breakers = breakers
        self._stops = stops
        self._clock = clock
        self._reference = reference
        self._rates = rates
        self._in_progress: set[_Attempt] = set()
        self._ended = asyncio.Event()
        self._own: dict[int, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._call_ids = _call_ids()
        self._judge = Judge(sender.channel, region, settings.region, reference)
        self.reporter = Reporter(bus, lane, sender.channel, region, settings.outcome_batch, settings.outcome_wait)
        self._duration = telemetry.histogram("delivery_duration_seconds", channel=sender.channel)
        self._outstanding = Outstanding(sender.channel, lane, settings, clock, self.reporter.count)
        self.consumer = ParkingConsumer(
            bus,
            lane,
            region,
            settings,
            channel=sender.channel,
            handle=self.handle,
            bury=self.bury,
            account=self._account,
        )
        self._admission = Admission(self._outstanding, rates, reference, self.consumer.park)

    async def handle(self, envelope: SendEnvelope, held: Held) -> None:
        if self._is_accounted(held):
            self._remember(held)
        await self._stops.refresh()
        doubted = self._breakers.doubts_credential(envelope.application_id)
        credential = await self._credentials.of(envelope.application_id, doubted)
        entry = await self._admission.entry(envelope.application_id, self._lane, held)
        calls = {(item.message_id, item.attempt) for item in envelope.items}
        suspect = await self._claim(calls) or envelope.marked or held.suspect
        try:
            items = await self._unsettled(envelope, held) if suspect else envelope.items
            left = await self._deliver_all(Work(entry, credential, asyncio.Event()), items)
        finally:
            self._in_progress -= calls
            self._ended.set()
        if left:
            await self._give_back(msgspec.structs.replace(envelope, items=left, marked=suspect), held)

    async def bury(self, envelope: SendEnvelope, held: Held) -> None:
        (item,) = envelope.items
        data = {"stream": held.stream, "deliveries": held.deliveries, "outcome": "unknown"}
        await self._report_and_wait(envelope, [self._judge.dead_letter(item, data)])

    async def _claim(self, calls: set[_Attempt]) -> bool:
        """Waits while this process works on a copy of the envelope. True if it did: then some of it is done."""
        waited = False
        while not self._in_progress.isdisjoint(calls):
            waited = True
            self._ended.clear()
            await self._ended.wait()
        self._in_progress |= calls
        return waited

    async def _unsettled(self, envelope: SendEnvelope, held: Held) -> list[Delivery]:
        """Where somebody may have worked on it before, lifecycle says what needs no call any more (R7)."""
        question = KnownOutcomes(envelope.lane, {item.message_id: item.attempt for item in envelope.items})
        known = await self._bus.call("lifecycle", "known_outcomes", question, Known, timeout=_KNOWN_TIMEOUT)
        settled = set(known.settled)
        left = [item for item in envelope.items if item.message_id not in settled]
        if left and not self._is_accounted(held):
            await self._report_lost(envelope, held, left)
        self._remember(held)
        return left

    async def _account(self, envelope: SendEnvelope, held: Held) -> None:
        try:
            await self._unsettled(envelope, held)
        except ServiceUnavailable:
            raise
        except SignalError as error:  # one of its messages spoils the question: each will be asked about alone
            _log.warning("holder_not_accounted", stream=held.stream, code=error.code)

    def _is_accounted(self, held: Held) -> bool:
        """No call is lost of whoever held the envelope before us: this process did, and reports what it calls."""
        return self._own.get(held.sequence, 0) in (held.deliveries - 1, held.deliveries)

    def _remember(self, held: Held) -> None:
        self._own[held.sequence] = held.deliveries
        if len(self._own) > _REMEMBERED:
            del self._own[next(iter(self._own))]

    async def _report_lost(self, envelope: SendEnvelope, held: Held, items: Iterable[Delivery]) -> None:
        """The holder before us was lost, perhaps in the middle of these calls: that is a fact (outcome unknown)."""
        key = f"lost:{held.sequence}:{held.deliveries}"
        await self._report_and_wait(envelope, [self._judge.lost(item, key) for item in items])

    async def _report_and_wait(self, envelope: SendEnvelope, outcomes: list[Outcome]) -> None:
        stored = asyncio.Event()
        left = itertools.count(len(outcomes) - 1, -1)

        def reported() -> None:
            if next(left) == 0:
                stored.set()

        for item in outcomes:
            self.reporter.add(envelope.application_id, item, reported)
        await stored.wait()

    async def _give_back(self, rest: SendEnvelope, held: Held) -> None:
        """What nobody called, as an envelope of its own: to whoever takes it, it is new. Raises `Abandoned` where ours
        may be another's by now, who then has all of it."""
        if not held.is_leased():
            raise Abandoned
        msg_id = f"rest:{held.stream}:{held.sequence}:{held.deliveries}"
        await self._bus.publish(held.subject, encode(rest), msg_id=msg_id)

    async def _deliver_all(self, work: Work, items: list[Delivery]) -> list[Delivery]:
        """Returns when every outcome is stored: what is left, because the envelope is to be given back."""
        try:
            return await self._begin_all(work, items)
        finally:
            self._settle(work)
            self.consumer.park(work.entry.held)
            await work.done.wait()

    async def _begin_all(self, work: Work, items: list[Delivery]) -> list[Delivery]:
        """Calls go out as fast as limits let them, the rest goes to `due`."""
        for index, item in enumerate(items):
            admitted = await self._admit(work, item, len(items) - index)
            await self._stops.refresh()
            if not work.entry.held.is_mine():
                if isinstance(admitted, Call):
                    self._outstanding.withdraw(admitted)
                return items[index:]
            work.unreported += 1
            if isinstance(admitted, Call):
                task = asyncio.create_task(self._deliver(work, item, admitted))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                continue
            if admitted is None:
                await self._deliver(work, item, None)
            else:
                self._report(work, item, admitted, 0.0, None)
            await self.reporter.room()
        return []

    async def _admit(self, work: Work, item: Delivery, left: int) -> Call | Postponed | None:
        """None: nobody will be called, and no part of the application's limits is spent on it."""
        return await self._admission.admit(work.entry, item, left) if self._is_callable(work, item) else None

    async def _deliver(self, work: Work, item: Delivery, call: Call | None) -> None:
        started = self._clock.monotonic()
        result: Result | Postponed | Stop | None = None
        try:
            result = await self._call(work, item)
        except (Exception, asyncio.CancelledError) as error:
            if being_cancelled():
                raise
            _log.error("sender_raised", exc_info=error)
            result = TryLater("sender_error", "network", unknown=True)
        finally:
            if call is not None:
                self._outstanding.leave(call, result)
        duration = self._clock.monotonic() - started
        self._duration.observe(duration)
        learned = None if await self._is_of_the_past(work, result) else result
        self._breakers.learn(work.entry.application_id, item.message_id, learned, started)
        self._rates.heard(work.entry.application_id, result)
        self._report(work, item, result, duration, call)

    async def _is_of_the_past(self, work: Work, result: Result | Postponed | Stop | None) -> bool:
        """A credential was refused that is not the application's any more."""
        match result:
            case TryLater(retry_class="credentials") if isinstance(work.credential, Credential):
                return await self._credentials.is_outdated(work.entry.application_id, work.credential)
        return False

    def _report(
        self, work: Work, item: Delivery, result: Result | Postponed | Stop | None, duration: float, call: Call | None
    ) -> None:
        def reported() -> None:
            if call is not None:
                self._outstanding.reported(call)
            self._settle(work)

        outcome = self._judge.outcome(item, next(self._call_ids), result, int(duration * 1000))
        self.reporter.add(work.entry.application_id, outcome, reported)

    def _settle(self, work: Work) -> None:
        work.unreported -= 1
        if work.unreported == 0:
            work.done.set()

    def _is_callable(self, work: Work, item: Delivery) -> bool:
        """What `_call` looks at too, when the wait is over."""
        return (
            isinstance(work.credential, Credential)
            and self._reference.judging_ms() < _last_ms(item)
            and self._stops.of(work.entry.application_id, self._sender.channel) is None
            and not self._breakers.holds(work.entry.application_id)
        )

    async def _call(self, work: Work, item: Delivery) -> Result | Postponed | Stop | None:
        """None: past its deadline, so nobody is called; nor where its hours are over or the application was stopped."""
        now_ms = self._reference.judging_ms()
        if now_ms >= item.deadline_ms:
            return None
        if item.closing is not None and now_ms >= item.closing.at_ms:
            return _closed(item.closing)
        stop = self._stops.of(work.entry.application_id, self._sender.channel)
        if stop is not None:
            return stop
        paused = self._breakers.admit(work.entry.application_id, item.message_id)
        if paused is not None:
            return paused
        if isinstance(work.credential, CredentialFault):
            return TryLater(work.credential.reason, "credentials")
        return await self._sender.send(item, work.credential, work.entry.application_id)


def _closed(closing: Closing) -> Postponed:
    """It lay here while its hours ended."""
    return Postponed(closing.hold, f"{closing.hold}:{closing.until_ms}", closing.until_ms, closing.data)


def _last_ms(item: Delivery) -> int:
    """From then on nobody is called."""
    return item.deadline_ms if item.closing is None else min(item.deadline_ms, item.closing.at_ms)


def _call_ids() -> Iterator[str]:
    """Names of provider calls, unlike those of any other process."""
    boot = os.urandom(5).hex()
    return (f"{boot}{number:x}" for number in itertools.count())
