"""Reading work-queue streams: envelopes are held while they are worked on, split when they keep failing, buried last.

An envelope is acknowledged only after its handler returned, so the handler publishes to the next stream first (R5).
"""

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable
from typing import Generic, Literal

import msgspec
import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig

from libs import telemetry
from libs.bus import Bus, ConnectionGone, PublishFailed
from libs.cancellation import being_cancelled
from libs.dead import DeadLetter
from libs.envelope import E_, DispatchEnvelope, SendEnvelope, UndecodableEnvelope, decode, encode
from libs.errors import ResourceNotFound, ServiceUnavailable
from libs.subjects import dead

SPLIT_AT = 3
"""From this delivery on an envelope is cut into single messages, and a single one that fails again is buried (R11)."""
GIVE_UP_AT = 8
"""At this delivery a single message is buried untried. Many: who is killed spends a delivery of everything in hand."""
PAUSES = (1.0, 5.0)
"""Seconds from a failure to the next delivery: what fails for everybody, for a moment, shall not be buried."""
STOP_SECONDS = 2.0
"""After `stop`, what is in hand may go on for so long; then it is to be given back."""
FETCH_SECONDS = 1.5
"""A fetch that spans a server restart waits out its whole time although a message is ready: so it is short."""

_MARK: dict[type, dict[str, bool]] = {DispatchEnvelope: {"marked": True}, SendEnvelope: {"marked": True}}
"""Single copies are asked about before they are sent: their first delivery may have got through."""
_LEASE = 0.9  # part of `ack_wait` in which an envelope is surely ours
_LOOK_AFTER = 20  # empty fetches: the consumer may be gone without a word

_log = telemetry.logger("consume")
_NATS_ERRORS = (nats.errors.Error, nats.js.errors.Error, asyncio.TimeoutError, OSError)


class Abandoned(Exception):
    """The holder may no longer be the only one: stop, and leave the envelope to its next delivery."""


class Held:
    """One envelope in our hands."""

    def __init__(self, bus: Bus, message: Msg, finish_by: float, given_after: float) -> None:
        """`given_after`: before that, by the time of the event loop, the server had not given it to us."""
        metadata = message.metadata
        self._bus = bus
        self._message = message
        self._loop = asyncio.get_running_loop()
        self._connection = bus.reconnects
        self._lease = bus.settings.ack_wait * _LEASE
        self._leased_until = given_after + self._lease
        self.finish_by = finish_by  # time of the event loop from which it is to be given back
        self.stream = metadata.stream
        self.subject = message.subject
        self.payload = message.data
        self.sequence = metadata.sequence.stream
        self.deliveries = metadata.num_delivered or 1
        self.suspect = self.deliveries > 1
        """True when another process, or this one before it lost its connection, may have worked on it already."""
        if not self.suspect:  # what kills one process after another shall take its time
            bus.holds.note(message.reply, self._leased_until - self._loop.time())

    def is_mine(self) -> bool:
        """False once it is to be given back, or no longer ours: then no provider is called any more (R7)."""
        return self._loop.time() < self.finish_by and self.is_leased()

    def is_leased(self) -> bool:
        """False once the server may have given it to another, as one does that crashed, and forgot whose it was."""
        known = self._bus.client.is_connected and self._bus.reconnects == self._connection
        return known and self._loop.time() < self._leased_until

    async def beat(self) -> None:
        """Ask for more time. Only the server's answer gives it: a dead connection looks alive for a while."""
        asked_at = self._loop.time()
        if asked_at >= self._leased_until:
            return
        with contextlib.suppress(*_NATS_ERRORS):
            await self._bus.client.request(self._message.reply, Msg.Ack.Progress, timeout=self._lease / 6)
            if self._loop.time() < self._leased_until:
                self._leased_until = asked_at + self._lease
                self._bus.holds.prolong(self._message.reply, self._leased_until - self._loop.time())

    async def ack(self) -> None:
        self._bus.holds.forget(self._message.reply)
        with contextlib.suppress(nats.errors.Error):
            await self._message.ack()

    async def release(self, pause: float) -> None:
        """Give the envelope back while it is ours; else another may have it, and `ack_wait` has done the same."""
        self._bus.holds.forget(self._message.reply)
        if self.is_leased():
            with contextlib.suppress(nats.errors.Error):
                await self._message.nak(delay=pause)


class Consumer(Generic[E_]):
    """`slots` envelopes at a time from one durable consumer, each handled by `handle`.

    `handle` may raise `ServiceUnavailable` (tried again while the envelope is ours), `Abandoned`, or anything else
    (delivered again; split from the third time on). `bury` is given a single-message envelope that never succeeded.
    """

    def __init__(
        self,
        bus: Bus,
        kind: type[E_],
        *,
        stream: str,
        durable: str,
        subject: str,
        slots: int,
        handle: Callable[[E_, Held], Awaitable[None]],
        bury: Callable[[E_, Held], Awaitable[None]],
    ) -> None:
        self._bus = bus
        self._kind = kind
        self._stream = stream
        self._durable = durable
        self._subject = subject
        self._slots = slots
        self._handle = handle
        self._bury = bury
        self._held: set[Held] = set()
        self._finish_by = math.inf  # no limit until `stop`
        self._bindings = 0
        self._looked_at: tuple[int, int] | None = None
        self._suspect_up_to = 0
        self._looking = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._dead_letters = telemetry.counter("dead_letters_total", stream=stream)

    async def run(self) -> None:
        """Until `stop`: then what is held is finished or given back, and nothing new is taken."""
        beats = asyncio.create_task(self._beat())
        try:
            await asyncio.gather(*(self._slot() for _ in range(self._slots)))
        finally:
            beats.cancel()

    async def stop(self) -> None:
        self._stopping.set()
        self._finish_by = asyncio.get_running_loop().time() + STOP_SECONDS
        for held in self._held:
            held.finish_by = self._finish_by

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._bus.settings.ack_wait / 3)
            await asyncio.gather(*(held.beat() for held in self._held), return_exceptions=True)

    async def _slot(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._read(await self._subscribe())
            except _NATS_ERRORS as error:
                if self._bus.client.is_closed and not self._stopping.is_set():
                    raise ConnectionGone(type(error).__name__) from error
                _log.debug("consumer_interrupted", stream=self._stream, error_type=type(error).__name__)
                await asyncio.sleep(0.3)

    async def _subscribe(self) -> JetStreamContext.PullSubscription:
        self._bindings += 1
        config = ConsumerConfig(
            durable_name=self._durable,
            filter_subject=self._subject,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=self._bus.settings.ack_wait,
            max_ack_pending=1_000,
        )
        try:
            await self._bus.js.add_consumer(self._stream, config)
        except nats.js.errors.NotFoundError:
            await self._bus.ensure_streams()
            await self._bus.js.add_consumer(self._stream, config)
        return await self._bus.js.pull_subscribe_bind(consumer=self._durable, stream=self._stream)

    async def _read(self, subscription: JetStreamContext.PullSubscription) -> None:
        loop, empty, asked_at = asyncio.get_running_loop(), 0, -math.inf
        try:
            while not self._stopping.is_set():
                last, asked_at = asked_at, loop.time()
                given_after = last if subscription.pending_msgs else asked_at  # what is there came since we last asked
                message = await _next(subscription)
                if message is not None:
                    await self._take(Held(self._bus, message, self._finish_by, given_after))
                elif (empty := empty + 1) % _LOOK_AFTER == 0:
                    await subscription.consumer_info()
        finally:
            with contextlib.suppress(*_NATS_ERRORS):
                await subscription.unsubscribe()

    async def _look(self, held: Held) -> None:
        """After each (re)connection or new consumer, all that is stored by now may have been delivered before: a
        server that crashed can forget both acknowledgements and delivery counts."""
        async with self._looking:
            now = (self._bus.reconnects, self._bindings)
            if self._looked_at != now:
                try:
                    self._suspect_up_to = (await self._bus.stream_state(self._stream)).state.last_seq
                except ResourceNotFound:
                    raise Abandoned from None
                self._looked_at = now
        held.suspect = held.suspect or held.sequence <= self._suspect_up_to

    async def _take(self, held: Held) -> None:
        self._held.add(held)
        try:
            await self._process(held)
        except Abandoned:  # when stopping, not before our own last fetches are over
            await held.release(FETCH_SECONDS if self._stopping.is_set() else PAUSES[0])
        except (Exception, asyncio.CancelledError) as error:
            if being_cancelled():
                raise
            _log.error("envelope_failed", stream=self._stream, deliveries=held.deliveries, exc_info=error)
            await held.release(PAUSES[min(held.deliveries, len(PAUSES)) - 1])
        else:
            await held.ack()
        finally:
            self._held.discard(held)

    async def _process(self, held: Held) -> None:
        await self._persist(held, lambda: self._look(held))
        try:
            envelope = decode(held.payload, self._kind)
        except (UndecodableEnvelope, RecursionError):
            await self._persist(held, lambda: self._to_dead(held, "undecodable", None))
            return
        if held.deliveries >= SPLIT_AT and len(envelope.items) != 1:
            await self._persist(held, lambda: self._split(envelope, held))
        elif held.deliveries >= GIVE_UP_AT or not await self._handled(envelope, held):
            await self._persist(held, lambda: self._give_up(envelope, held))

    async def _handled(self, envelope: E_, held: Held) -> bool:
        """False: a single message defeated its handler again, and shall not have another chance."""
        try:
            await self._persist(held, lambda: self._handle(envelope, held))
        except Abandoned:
            raise
        except (Exception, asyncio.CancelledError) as error:
            if being_cancelled() or held.deliveries < SPLIT_AT:
                raise
            _log.error("message_failed", stream=self._stream, deliveries=held.deliveries, exc_info=error)
            return False
        return True

    async def _split(self, envelope: E_, held: Held) -> None:
        for item in envelope.items:
            single = msgspec.structs.replace(envelope, items=[item], **_MARK.get(self._kind, {}))
            msg_id = f"single:{held.stream}:{held.sequence}:{item.message_id}"
            await self._bus.publish(held.subject, encode(single), msg_id=msg_id)

    async def _give_up(self, envelope: E_, held: Held) -> None:
        """Where even the burial fails, DEAD has the note, and the reconciler still knows the message."""
        await self._to_dead(held, "dead_letter", envelope.items[0].message_id)
        try:
            await self._bury(envelope, held)
        except (ServiceUnavailable, PublishFailed, Abandoned):
            raise
        except Exception as error:
            _log.error("burial_failed", stream=self._stream, sequence=held.sequence, exc_info=error)

    async def _persist(self, held: Held, step: Callable[[], Awaitable[None]]) -> None:
        """A dependency that is away is waited for, without spending one of the envelope's deliveries."""
        while True:
            try:
                return await step()
            except (ServiceUnavailable, PublishFailed):
                if not held.is_mine() or self._stopping.is_set():
                    raise Abandoned from None
                await asyncio.sleep(0.25)

    async def _to_dead(self, held: Held, reason: Literal["undecodable", "dead_letter"], message_id: str | None) -> None:
        """A copy without content: what it was, where, and why."""
        stream, at, size = held.stream, held.sequence, len(held.payload)
        note = DeadLetter(stream, at, held.subject, size, reason, held.deliveries, message_id)
        await self._bus.publish(dead(stream), msgspec.json.encode(note), msg_id=f"dead:{stream}:{at}:{message_id}")
        self._dead_letters.inc()


async def _next(subscription: JetStreamContext.PullSubscription) -> Msg | None:
    """None where nothing came in time."""
    loop = asyncio.get_running_loop()
    asked_at = loop.time()
    try:
        return (await subscription.fetch(1, timeout=FETCH_SECONDS))[0]
    except (TimeoutError, nats.errors.TimeoutError):
        if loop.time() - asked_at < FETCH_SECONDS / 2:
            await asyncio.sleep(0.3)  # refused at once, such as by a consumer that has too many readers
        return None
