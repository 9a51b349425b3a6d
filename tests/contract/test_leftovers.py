"""What a killed NATS server brought back although it was acknowledged goes; nothing else does."""

import asyncio
import dataclasses
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo
from nats.js.errors import ServiceUnavailableError

from libs import leftovers
from libs.bus import Bus
from libs.config import Nats
from libs.leftovers import Leftovers, sweep
from libs.subjects import send, stream_of
from services.lifecycle import reconcile
from tests.contract.reader_harness import STREAM, Reader, envelope, give
from tests.contract.streams_harness import connected, drained, stored, until
from tests.servers import NatsServer

NAMES = "abcde"
PAGE = 256
"""What the server tells of at a time."""


@pytest.fixture
def settings(own_nats: NatsServer) -> Nats:
    return Nats(url=own_nats.url, max_stream_bytes=64 * 1024**2)


@pytest.fixture
async def brought_back(own_nats: NatsServer, settings: Nats, tmp_path: Path) -> AsyncIterator[Bus]:
    """The stream as it was before its messages were acknowledged, its consumer as it was afterwards."""
    async with connected(settings, "test") as bus:
        for name in NAMES:
            await give(bus, envelope(name))
    [messages] = own_nats.store.glob(f"**/streams/{STREAM}/msgs")
    await asyncio.to_thread(own_nats.end)
    kept = shutil.copytree(messages, tmp_path / "msgs")
    await asyncio.to_thread(own_nats.run)
    async with connected(settings, "reader") as bus:
        reader = Reader(bus)
        task = asyncio.create_task(reader.consumer.run())
        await until(lambda: sorted(reader.finished) == list(NAMES))
        await drained(bus, STREAM)
        await reader.consumer.stop()
        await task
    await asyncio.to_thread(own_nats.end)
    shutil.rmtree(messages)
    shutil.copytree(kept, messages)
    await asyncio.to_thread(own_nats.run)
    async with connected(settings, "test") as bus:
        assert await stored(bus, STREAM) == len(NAMES)
        yield bus


async def test_what_came_back_goes(brought_back: Bus) -> None:
    await sweep(brought_back, STREAM)
    assert await stored(brought_back, STREAM) == 0


async def test_who_searches_for_lost_work_does_not_wait_for_ever(brought_back: Bus) -> None:
    noted = await reconcile._note(brought_back, STREAM)
    await asyncio.wait_for(reconcile._reached(brought_back, STREAM, noted, sweeps=True), 15)


async def test_all_work_queues_are_looked_at_after_a_connection(brought_back: Bus) -> None:
    part = Leftovers(brought_back)
    await part.round()
    assert await stored(brought_back, STREAM) == 0


async def test_a_look_that_failed_is_taken_again(brought_back: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    part = Leftovers(brought_back)
    with monkeypatch.context() as patched:
        patched.setattr(brought_back.js, "consumers_info", _unavailable)
        await part.round()
    assert await stored(brought_back, STREAM) == len(NAMES)
    await part.round()
    assert await stored(brought_back, STREAM) == 0


async def _unavailable(_: str, offset: int) -> None:
    raise ServiceUnavailableError(code=503, description="JetStream is starting")


async def test_what_came_back_goes_wherever_its_consumer_stands_in_the_list(
    brought_back: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    (reader,) = await brought_back.js.consumers_info(STREAM)
    nobody = dataclasses.replace(reader, config=dataclasses.replace(reader.config, filter_subject=None))
    listed = [nobody] * (2 * PAGE + 1) + [reader]

    async def page(_: str, offset: int) -> list[ConsumerInfo]:
        return listed[offset : offset + PAGE]

    monkeypatch.setattr(brought_back.js, "consumers_info", page)
    await sweep(brought_back, STREAM)
    assert await stored(brought_back, STREAM) == 0


async def test_all_consumers_of_a_stream_are_looked_at(settings: Nats) -> None:
    """As the server tells of them: those of one channel in more regions than a page has room for."""
    stream = stream_of("SEND", "normal")
    names = [f"apns_r{n:03}" for n in range(PAGE + 3)]
    async with connected(settings, "test") as bus:

        async def make(name: str) -> None:
            subject = send("normal", "apns", name.removeprefix("apns_"))
            await bus.js.add_consumer(
                stream, ConsumerConfig(durable_name=name, filter_subject=subject, ack_policy=AckPolicy.EXPLICIT)
            )

        for start in range(0, len(names), 20):
            await asyncio.gather(*map(make, names[start : start + 20]))
        found = await leftovers._consumers(bus, stream)
    assert [each.name for each in found] == names


async def test_what_waits_or_is_in_hand_stays(brought_back: Bus) -> None:
    reader = Reader(brought_back, slots=1)
    gate = reader.waits("new")
    task = asyncio.create_task(reader.consumer.run())
    await give(brought_back, envelope("new"))
    await give(brought_back, envelope("newer"))
    await until(lambda: bool(reader.handled))
    await sweep(brought_back, STREAM)
    assert await stored(brought_back, STREAM) == 2
    gate.set()
    await until(lambda: reader.finished == ["new", "newer"])
    await reader.consumer.stop()
    await task


async def test_what_nobody_reads_yet_stays(settings: Nats) -> None:
    async with connected(settings, "test") as bus:
        await give(bus, envelope("a"))
        await sweep(bus, STREAM)
        assert await stored(bus, STREAM) == 1
