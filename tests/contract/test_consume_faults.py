"""Envelopes are given back on stop, and survive deleted, killed, wiped and frozen servers, on a real NATS."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest

from libs import consume
from libs.bus import Bus, ConnectionGone
from libs.config import Nats
from libs.consume import Abandoned, Held
from libs.errors import ServiceUnavailable
from tests.contract.reader_harness import DURABLE, STREAM, SUBJECT, Reader, envelope, give, reader_on, reading
from tests.contract.streams_harness import (
    ACK_WAIT,
    connected,
    drained,
    frozen,
    impatient,
    quick,
    stored,
    tapped,
    until,
)
from tests.servers import NatsServer


@pytest.fixture
async def hasty(nats_settings: Nats) -> AsyncIterator[Bus]:
    async with connected(quick(nats_settings), "reader") as bus:
        yield bus


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    with impatient():
        yield


# giving back ----------------------------------------------------------------------------------------------------------


async def test_stop_finishes_what_is_in_hand_and_takes_nothing_new(hasty: Bus) -> None:
    reader = Reader(hasty, slots=1)
    gate = reader.waits("a")
    task = asyncio.create_task(reader.consumer.run())
    await give(hasty, envelope("a"))
    await until(lambda: bool(reader.handled))
    await reader.consumer.stop()
    await give(hasty, envelope("b"))
    gate.set()
    await asyncio.wait_for(task, 10)
    assert reader.finished == ["a"]
    await drained(hasty, STREAM, to=1)


async def test_what_is_in_hand_ceases_to_be_ours_some_time_after_stop(
    hasty: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consume, "STOP_SECONDS", 0.3)
    reader = Reader(hasty, slots=1)

    async def give_back_when_told(held: Held) -> None:
        await until(lambda: not held.is_mine())
        raise Abandoned

    reader.scripts["a"] = give_back_when_told
    task = asyncio.create_task(reader.consumer.run())
    await give(hasty, envelope("a"))
    await until(lambda: bool(reader.handled))
    await reader.consumer.stop()
    await asyncio.wait_for(task, 10)
    assert await stored(hasty, STREAM) == 1
    async with tapped(hasty, STREAM, SUBJECT, DURABLE) as tap:
        assert (await tap.raw()).metadata.num_delivered == 2


async def test_stop_gives_back_at_once_what_waits_for_a_dependency(nats_settings: Nats) -> None:
    patient = msgspec.structs.replace(nats_settings, ack_wait=60.0)
    async with connected(patient, "reader") as bus:
        reader = Reader(bus, slots=1)
        reader.fails("a", ServiceUnavailable())
        task = asyncio.create_task(reader.consumer.run())
        await give(bus, envelope("a"))
        await until(lambda: bool(reader.handled))
        await reader.consumer.stop()
        await asyncio.wait_for(task, 10)
        other = Reader(bus, slots=1)
        async with reading(other):
            await until(lambda: other.finished == ["a"], 10)


# a broken world -------------------------------------------------------------------------------------------------------


async def test_a_consumer_that_was_deleted_comes_back(hasty: Bus) -> None:
    reader = Reader(hasty)
    async with reading(reader):
        await give(hasty, envelope("a"))
        await until(lambda: "a" in reader.finished)
        await hasty.js.delete_consumer(STREAM, DURABLE)
        await give(hasty, envelope("b"))
        await until(lambda: "b" in reader.finished)


async def test_what_a_new_consumer_delivers_may_have_been_worked_on(hasty: Bus) -> None:
    """It starts anew: what is in our hands comes again as if for the first time."""
    reader = Reader(hasty, slots=2)
    gate = reader.waits("a")
    async with reading(reader):
        await give(hasty, envelope("a"))
        await until(lambda: bool(reader.handled))
        await hasty.js.delete_consumer(STREAM, DURABLE)
        await until(lambda: len(reader.handled) == 2)
        gate.set()
        await drained(hasty, STREAM)
    assert reader.deliveries_of("a") == [1, 1]
    assert reader.handled[1][1].suspect


async def test_a_stream_that_was_deleted_comes_back(hasty: Bus) -> None:
    reader = Reader(hasty)
    async with reading(reader):
        await give(hasty, envelope("a"))
        await until(lambda: "a" in reader.finished)
        await hasty.js.delete_stream(STREAM)
        await give(hasty, envelope("b"))
        await until(lambda: "b" in reader.finished)


async def test_a_server_that_crashes_between_fetch_and_acknowledgement(own_nats: NatsServer) -> None:
    async with reader_on(own_nats) as bus:
        reader = Reader(bus, slots=2)
        gate = reader.waits("a")
        async with reading(reader):
            await give(bus, envelope("a"))
            await until(lambda: bool(reader.handled))
            held = reader.held("a")
            own_nats.end(signal.SIGKILL)
            await until(lambda: not held.is_mine())
            gate.set()
            await until(lambda: "a" in reader.finished)
            own_nats.run()
            await give(bus, envelope("b"))
            await drained(bus, STREAM)
        assert "b" in reader.finished
        assert all(held.suspect for found, held in reader.handled[1:] if found == ["a"])


async def test_a_server_whose_store_was_wiped(own_nats: NatsServer) -> None:
    async with reader_on(own_nats) as bus:
        reader = Reader(bus, slots=2)
        async with reading(reader):
            await give(bus, *(envelope(f"old-{n}") for n in range(5)))
            await drained(bus, STREAM)
            own_nats.end(signal.SIGKILL)
            own_nats.wipe()
            own_nats.run()
            await give(bus, envelope("new"))
            await until(lambda: "new" in reader.finished)
            await drained(bus, STREAM)


async def test_a_server_that_does_not_answer_takes_our_lease_away(own_nats: NatsServer) -> None:
    """The connection still looks alive: only the missing answers tell."""
    async with reader_on(own_nats) as bus:
        reader = Reader(bus, slots=1)
        gate = reader.waits("a")
        async with reading(reader):
            await give(bus, envelope("a"))
            await until(lambda: bool(reader.handled))
            held = reader.held("a")
            with frozen(own_nats):
                await until(lambda: not held.is_mine(), 3 * ACK_WAIT)
                assert bus.client.is_connected
            assert not held.is_mine()
            gate.set()
            await drained(bus, STREAM)


async def test_a_connection_closed_for_good_ends_the_consumer(own_nats: NatsServer) -> None:
    """Only a new process gets another connection; a supervisor starts one."""
    async with reader_on(own_nats) as bus:
        task = asyncio.create_task(Reader(bus).consumer.run())
        await until(lambda: bool(bus.client.is_connected))
        await bus.client.close()
        with pytest.raises(ConnectionGone):
            await asyncio.wait_for(task, 10)
