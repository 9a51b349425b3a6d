"""Reading what a stream holds without being one of its readers: what backups and restores ask for."""

import asyncio
from datetime import UTC, datetime

import pytest

from libs.bus import Bus
from libs.errors import ResourceNotFound
from libs.events import EventBatch, PublishedEvent, encode_batch
from libs.ids import new_id
from libs.subjects import EVENTS, events
from libs.subscribe import Subscriber, first_unread, last_stored, stored
from tests.waiting import until

APPLICATION = new_id()


async def publish(bus: Bus, position: int, kind: str = "sent") -> EventBatch:
    event = PublishedEvent(1, "7", position, new_id(), kind, 1, "", datetime.now(UTC))
    batch = EventBatch(APPLICATION, [event])
    await bus.publish(events(APPLICATION), encode_batch(batch), msg_id=new_id())
    return batch


async def payloads(bus: Bus, since: datetime | None = None) -> list[bytes]:
    return [message.data async for message in stored(bus, EVENTS, events("*"), since)]


async def test_everything_comes_once_and_in_order_however_much_there_is(bus: Bus) -> None:
    batches = [await publish(bus, position) for position in range(450)]
    assert await payloads(bus) == [encode_batch(batch) for batch in batches]
    assert await last_stored(bus, EVENTS) == encode_batch(batches[-1])


async def test_an_empty_stream_has_nothing_and_says_so_at_once(bus: Bus) -> None:
    async with asyncio.timeout(2):
        assert await payloads(bus) == []
        assert await last_stored(bus, EVENTS) is None
        assert await first_unread(bus) is None


async def test_reading_may_begin_at_a_time(bus: Bus) -> None:
    await publish(bus, 1)
    between = datetime.now(UTC)
    later = await publish(bus, 2)
    assert await payloads(bus, between) == [encode_batch(later)]


async def test_a_stream_that_is_not_there_is_not_an_empty_one(bus: Bus) -> None:
    await bus.js.delete_stream(EVENTS)
    with pytest.raises(ResourceNotFound):
        await payloads(bus)
    with pytest.raises(ResourceNotFound):
        await first_unread(bus)


async def test_the_oldest_batch_that_a_durable_reader_has_not_acknowledged_is_found(bus: Bus) -> None:
    batches = [await publish(bus, position) for position in range(5)]
    taken: list[EventBatch] = []

    async def take(batch: EventBatch) -> None:
        taken.append(batch)
        if len(taken) == 3:
            await asyncio.Event().wait()

    reader = Subscriber(bus, durable="slow", kinds=frozenset({"sent"}), handle=take)
    reading = asyncio.create_task(reader.run())
    try:
        await until(lambda: _is(len(taken) == 3), "two are read, the third is in hand")
        await until(lambda: _first_is(bus, batches[2]), "two are acknowledged")
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def test_readers_that_have_read_all_hold_nothing_back(bus: Bus) -> None:
    await publish(bus, 1)
    taken: list[EventBatch] = []

    async def take(batch: EventBatch) -> None:
        taken.append(batch)

    reader = Subscriber(bus, durable="quick", kinds=frozenset({"sent"}), handle=take)
    reading = asyncio.create_task(reader.run())
    await until(lambda: _is(len(taken) == 1), "it is taken")
    await until(lambda: _first_is(bus, None), "it is acknowledged")
    await reader.stop()
    await reading


async def _is(holds: bool) -> bool:
    return holds


async def _first_is(bus: Bus, batch: EventBatch | None) -> bool:
    return await first_unread(bus) == batch
