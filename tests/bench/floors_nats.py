"""JetStream: what publishing, fetching and acknowledging cost, one message at a time and in envelopes of 100."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable

import nats
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StorageType, StreamConfig

from tests.bench.floor import PAYLOAD, Floor, measure

ENVELOPE = 100
IN_FLIGHT = 100
"""Single publishes under way at once; of envelopes a tenth."""
FETCH = 100

SINGLE = "JetStream publish + ack, one message each"
ENVELOPES = "JetStream publish + ack, envelopes of 100"
FETCH_SINGLE = "JetStream fetch + ack, one message each"
FETCH_ENVELOPES = "JetStream fetch + ack, envelopes of 100"


async def run(url: str) -> AsyncIterator[Floor]:
    """Streams of its own, file storage; the server's `sync_interval` applies."""
    client = await nats.connect(url)
    stream, subject = f"BENCH_{os.getpid()}", f"bench.{os.getpid()}"
    js = client.jetstream(timeout=10)
    single, envelope = os.urandom(PAYLOAD), os.urandom(PAYLOAD * ENVELOPE)
    try:
        for payload, items, names in (
            (single, 1, (SINGLE, FETCH_SINGLE)),
            (envelope, ENVELOPE, (ENVELOPES, FETCH_ENVELOPES)),
        ):
            await js.add_stream(_stream(stream, subject))
            references = ("16,000/s, 52 µs", "57 µs") if items == 1 else ("178,000/s, 2.6 µs", "< 1 µs")
            yield await measure(names[0], _publisher(js, subject, payload, items), references[0])
            yield await _fetching(js, stream, subject, items, names[1], references[1])
            await js.delete_stream(stream)
    finally:
        await client.close()


def _stream(name: str, subject: str) -> StreamConfig:
    return StreamConfig(
        name=name,
        subjects=[subject],
        storage=StorageType.FILE,
        retention=RetentionPolicy.WORK_QUEUE,
        max_bytes=1024**3,
    )


def _publisher(js: JetStreamContext, subject: str, payload: bytes, items: int) -> Callable[[], Awaitable[int]]:
    window = IN_FLIGHT if items == 1 else IN_FLIGHT // 10

    async def once() -> int:
        await asyncio.gather(*(js.publish(subject, payload) for _ in range(window)))
        return window * items

    return once


async def _fetching(js: JetStreamContext, stream: str, subject: str, items: int, name: str, reference: str) -> Floor:
    """Takes what the publishing floor left, once."""
    consumer = ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, max_ack_pending=10_000)
    subscription = await js.pull_subscribe(subject, durable="bench", stream=stream, config=consumer)
    fetch = FETCH if items == 1 else FETCH // 10

    async def once() -> int:
        messages = await subscription.fetch(fetch, timeout=5)
        await asyncio.gather(*(message.ack() for message in messages))
        return len(messages) * items

    waiting = (await js.stream_info(stream)).state.messages
    floor = await measure(name, once, reference, limit=max(1, waiting // fetch - 1))
    await subscription.unsubscribe()
    return floor
