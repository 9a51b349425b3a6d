"""Following EVENTS as any subscriber does: a durable consumer that survives restarts and a recreated stream."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime

import msgspec
import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from libs import telemetry
from libs.bus import Bus, PublishFailed
from libs.errors import ServiceUnavailable
from libs.events import KINDS_HEADER, EventBatch, UndecodableBatch, decode_batch
from libs.subjects import EVENTS, dead
from libs.subjects import events as events_of

FETCH_SECONDS = 1.5
"""A fetch that spans a server restart waits out its whole time although a message is ready: so it is short."""
ACK_WAIT = 30.0
"""Seconds until a batch whose holder is silent is delivered again; handlers bear repetition."""
MAX_DELIVERIES = 5
"""A batch that defeats its handler this often is put aside in DEAD."""
AGAIN_AFTER = 1.0
"""Seconds until a batch that defeated its handler is delivered again."""
_FETCH = 200
_REBIND_AFTER = 10
"""Empty fetches: a recreated stream has lost its consumers, and nobody tells."""

_log = telemetry.logger("subscribe")
_NATS_ERRORS = (nats.errors.Error, nats.js.errors.Error, asyncio.TimeoutError, OSError, PublishFailed)


class Subscriber:
    """Gives each batch that holds one of `kinds` to `handle`, at least once; replicas share the work.

    `handle` may raise `ServiceUnavailable` (tried again), or anything else (delivered again later).
    """

    def __init__(
        self, bus: Bus, *, durable: str, kinds: frozenset[str], handle: Callable[[EventBatch], Awaitable[None]]
    ) -> None:
        self._bus = bus
        self._durable = durable
        self._kinds = kinds
        self._handle = handle
        self._stopping = asyncio.Event()
        self._dead_letters = telemetry.counter("dead_letters_total", stream=EVENTS)

    async def run(self) -> None:
        """Until `stop`: then the batch in hand is finished and nothing new is taken."""
        while not self._stopping.is_set():
            try:
                subscription = await self._subscribe()
                await self._read(subscription)
            except _NATS_ERRORS as error:
                _log.debug("subscriber_interrupted", durable=self._durable, error_type=type(error).__name__)
                await asyncio.sleep(0.3)

    async def stop(self) -> None:
        self._stopping.set()

    async def _subscribe(self) -> JetStreamContext.PullSubscription:
        config = ConsumerConfig(
            durable_name=self._durable,
            filter_subject=events_of("*"),
            deliver_policy=DeliverPolicy.ALL,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT,
            max_ack_pending=64,
        )
        try:
            await self._bus.js.add_consumer(EVENTS, config)
        except nats.js.errors.NotFoundError:
            await self._bus.ensure_streams()
            await self._bus.js.add_consumer(EVENTS, config)
        return await self._bus.js.pull_subscribe_bind(consumer=self._durable, stream=EVENTS)

    async def _read(self, subscription: JetStreamContext.PullSubscription) -> None:
        empty, connection = 0, self._bus.reconnects
        try:
            while not self._stopping.is_set() and empty < _REBIND_AFTER and connection == self._bus.reconnects:
                message = await self._next(subscription)
                empty = empty + 1 if message is None else 0
                if message is not None:
                    await self._take(message)
        finally:
            with contextlib.suppress(*_NATS_ERRORS):
                await subscription.unsubscribe()

    async def _next(self, subscription: JetStreamContext.PullSubscription) -> Msg | None:
        """None when nothing came in time, or on `stop`, which does not wait for that time."""
        fetching = asyncio.create_task(subscription.fetch(1, timeout=FETCH_SECONDS))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({fetching, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return (await fetching)[0] if fetching.done() else None
        except (TimeoutError, nats.errors.TimeoutError):
            return None
        finally:
            fetching.cancel()
            stopping.cancel()

    async def _take(self, message: Msg) -> None:
        try:
            if self._concerns_us(message):
                await self._persist(decode_batch(message.data), message)
        except UndecodableBatch:
            await self._put_aside(message, "undecodable")
        except ServiceUnavailable:
            return  # stopping: the next holder takes it after ACK_WAIT
        except Exception as error:
            _log.error("events_failed", durable=self._durable, exc_info=error)
            if (message.metadata.num_delivered or 1) < MAX_DELIVERIES:
                await message.nak(delay=AGAIN_AFTER)
                return
            await self._put_aside(message, "dead_letter")
        await message.ack()

    def _concerns_us(self, message: Msg) -> bool:
        listed = (message.headers or {}).get(KINDS_HEADER)
        return listed is None or not self._kinds.isdisjoint(listed.split(","))

    async def _persist(self, batch: EventBatch, message: Msg) -> None:
        """A database that is away is waited for: EVENTS keeps for days what comes meanwhile."""
        while True:
            try:
                return await self._handle(batch)
            except ServiceUnavailable:
                if self._stopping.is_set():
                    raise
                with contextlib.suppress(*_NATS_ERRORS):
                    await message.in_progress()
                await asyncio.sleep(0.25)

    async def _put_aside(self, message: Msg, reason: str) -> None:
        self._dead_letters.inc()
        sequence = message.metadata.sequence.stream
        note = {
            "stream": EVENTS,
            "sequence": sequence,
            "subject": message.subject,
            "bytes": len(message.data),
            "reader": self._durable,
            "reason": reason,
        }
        await self._bus.publish(
            dead(EVENTS), msgspec.json.encode(note), msg_id=f"dead:{EVENTS}:{self._durable}:{sequence}"
        )


async def stored(bus: Bus, stream: str, subject: str, since: datetime | None = None) -> AsyncIterator[Msg]:
    """What the stream holds now on `subject`, oldest first, stored at `since` or later; without becoming a reader.

    Raises `ResourceNotFound` where there is no such stream, `ServiceUnavailable` rather than stop before the end.
    """
    await bus.stream_state(stream)
    config = ConsumerConfig(
        deliver_policy=DeliverPolicy.ALL if since is None else DeliverPolicy.BY_START_TIME,
        opt_start_time=since,
        ack_policy=AckPolicy.NONE,
    )
    try:
        subscription = await bus.js.pull_subscribe(subject, stream=stream, config=config)
        left = (await subscription.consumer_info()).num_pending or 0
        while left > 0:
            messages = await subscription.fetch(_FETCH, timeout=FETCH_SECONDS)
            for message in messages:
                yield message
            left = messages[-1].metadata.num_pending
        await subscription.unsubscribe()
    except _NATS_ERRORS as error:
        raise ServiceUnavailable(service="nats", retry_after=1) from error


async def last_stored(bus: Bus, stream: str) -> bytes | None:
    """The newest message of a stream. Raises `ResourceNotFound` where there is no such stream."""
    state = (await bus.stream_state(stream)).state
    return None if state.messages == 0 else (await bus.js.get_msg(stream, state.last_seq)).data


async def first_unread(bus: Bus) -> EventBatch | None:
    """The oldest batch on EVENTS that one of its durable readers has not acknowledged; None: they have read all."""
    state = (await bus.stream_state(EVENTS)).state
    readers = [reader for reader in await bus.js.consumers_info(EVENTS) if reader.config.durable_name]
    floors = [reader.ack_floor.stream_seq for reader in readers if reader.ack_floor is not None]
    behind = min(floors, default=state.last_seq)
    try:
        found = await bus.js.get_msg(EVENTS, behind + 1, subject=events_of("*"), next=True)
    except nats.js.errors.NotFoundError:
        return None
    return decode_batch(found.data or b"")
