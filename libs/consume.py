"""Reading work-queue streams: envelopes are held while they are worked on, split when they keep failing, buried last.

An envelope is acknowledged only after its handler returned, so the handler publishes to the next stream first (R5).
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Generic

import msgspec
import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig

from libs import telemetry
from libs.bus import Bus, PublishFailed
from libs.envelope import E_, DispatchEnvelope, SendEnvelope, UndecodableEnvelope, decode, encode
from libs.errors import ServiceUnavailable
from libs.subjects import dead

SPLIT_AT = 3
"""From this delivery on an envelope is cut into single messages; a single one is buried (R11)."""
FETCH_SECONDS = 1.5
"""A fetch that spans a server restart waits out its whole time although a message is ready: so it is short."""

_MARK: dict[type, dict[str, bool]] = {DispatchEnvelope: {"marked": True}, SendEnvelope: {"marked": True}}
"""Single copies are asked about before they are sent: their first delivery may have got through."""

_log = telemetry.logger("consume")
_NATS_ERRORS = (nats.errors.Error, nats.js.errors.Error, asyncio.TimeoutError, OSError)


class Abandoned(Exception):
    """The holder may no longer be the only one: stop, and leave the envelope to its next delivery."""


class Held:
    """One envelope in our hands."""

    def __init__(self, bus: Bus, message: Msg, suspect_up_to: int) -> None:
        metadata = message.metadata
        self._bus = bus
        self._message = message
        self._loop = asyncio.get_running_loop()
        self._alive_until = self._loop.time() + bus.settings.ack_wait * 0.9
        self.stream = metadata.stream
        self.subject = message.subject
        self.payload = message.data
        self.sequence = metadata.sequence.stream
        self.deliveries = metadata.num_delivered or 1
        self.suspect = self.deliveries > 1 or self.sequence <= suspect_up_to
        """True when another process, or this one before it lost its connection, may have worked on it already."""

    def is_mine(self) -> bool:
        """False once the server may have given the envelope to another: then no provider is called any more (R7)."""
        return self._bus.client.is_connected and self._loop.time() < self._alive_until

    async def beat(self) -> None:
        """Ask for more time."""
        if not self._bus.client.is_connected or self._loop.time() >= self._alive_until:
            return
        with contextlib.suppress(nats.errors.Error):
            await self._message.in_progress()
            self._alive_until = self._loop.time() + self._bus.settings.ack_wait * 0.9

    async def ack(self) -> None:
        with contextlib.suppress(nats.errors.Error):
            await self._message.ack()

    async def release(self) -> None:
        """Give the envelope back; where that fails, `ack_wait` does the same."""
        with contextlib.suppress(nats.errors.Error):
            await self._message.nak(delay=0.2)


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
        self._connection = -1
        self._suspect_up_to = 0
        self._refreshing = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._dead_letters = telemetry.counter("dead_letters_total", stream=stream)

    async def run(self) -> None:
        """Until `stop`: then what is held is finished and nothing new is taken."""
        beats = asyncio.create_task(self._beat())
        try:
            await asyncio.gather(*(self._slot() for _ in range(self._slots)))
        finally:
            beats.cancel()

    async def stop(self) -> None:
        self._stopping.set()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._bus.settings.ack_wait / 3)
            for held in list(self._held):
                await held.beat()

    async def _slot(self) -> None:
        while not self._stopping.is_set():
            try:
                subscription = await self._subscribe()
                await self._read(subscription)
            except _NATS_ERRORS as error:
                _log.debug("consumer_interrupted", stream=self._stream, error_type=type(error).__name__)
                await asyncio.sleep(0.3)

    async def _subscribe(self) -> JetStreamContext.PullSubscription:
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
        empty = 0
        try:
            while not self._stopping.is_set() and empty < 20:
                try:
                    (message,) = await subscription.fetch(1, timeout=FETCH_SECONDS)
                except (TimeoutError, nats.errors.TimeoutError):
                    empty += 1  # now and then bind again: a recreated store has lost its consumers
                    continue
                empty = 0
                await self._refresh()
                await self._take(Held(self._bus, message, self._suspect_up_to))
        finally:
            with contextlib.suppress(*_NATS_ERRORS):
                await subscription.unsubscribe()

    async def _refresh(self) -> None:
        """After each (re)connection, all that is stored by now may have been delivered before: a server that crashed
        can forget both acknowledgements and delivery counts."""
        async with self._refreshing:
            if self._connection == self._bus.reconnects:
                return
            connection = self._bus.reconnects
            self._suspect_up_to = (await self._bus.js.stream_info(self._stream)).state.last_seq
            self._connection = connection

    async def _take(self, held: Held) -> None:
        self._held.add(held)
        try:
            await self._process(held)
        except Abandoned:
            await held.release()
        except UndecodableEnvelope:
            await self._to_dead(held, "undecodable", None)
            await held.ack()
        except Exception as error:
            _log.error("envelope_failed", stream=self._stream, deliveries=held.deliveries, exc_info=error)
            await held.release()
        finally:
            self._held.discard(held)

    async def _process(self, held: Held) -> None:
        envelope = decode(held.payload, self._kind)
        if held.deliveries >= SPLIT_AT:
            await self._split_or_bury(envelope, held)
        else:
            await self._persist(self._handle, envelope, held)
        await held.ack()

    async def _split_or_bury(self, envelope: E_, held: Held) -> None:
        if len(envelope.items) == 1:
            await self._to_dead(held, "dead_letter", envelope.items[0].message_id)
            await self._persist(self._bury, envelope, held)
            return
        for item in envelope.items:
            single = msgspec.structs.replace(envelope, items=[item], **_MARK.get(self._kind, {}))
            await self._bus.publish(
                held.subject, encode(single), msg_id=f"single:{held.stream}:{held.sequence}:{item.message_id}"
            )

    async def _persist(self, step: Callable[[E_, Held], Awaitable[None]], envelope: E_, held: Held) -> None:
        """A dependency that is away is waited for, without spending one of the envelope's deliveries."""
        while True:
            try:
                return await step(envelope, held)
            except (ServiceUnavailable, PublishFailed):
                if not held.is_mine() or self._stopping.is_set():
                    raise Abandoned from None
                await asyncio.sleep(0.25)

    async def _to_dead(self, held: Held, reason: str, message_id: str | None) -> None:
        """A copy without content: what it was, where, and why."""
        self._dead_letters.inc()
        note: dict[str, Any] = {
            "stream": held.stream,
            "sequence": held.sequence,
            "subject": held.subject,
            "bytes": len(held.payload),
            "deliveries": held.deliveries,
            "reason": reason,
            "message_id": message_id,
        }
        await self._bus.publish(
            dead(held.stream),
            msgspec.json.encode(note),
            msg_id=f"dead:{held.stream}:{held.sequence}:{message_id}",
        )
