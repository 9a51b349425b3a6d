"""A sender whose NATS is killed or frozen, that is stopped, or given poison: nothing is lost or called twice."""

import asyncio
import signal
from collections.abc import Iterator

import pytest

from libs import consume
from libs.config import Nats
from libs.envelope import SendEnvelope, decode
from services.senders.settings import Sender as SenderSettings
from tests.contract.sender_harness import (
    CHANNEL,
    DURABLE,
    SEND,
    SUBJECT,
    deliveries,
    facts,
    sending,
)
from tests.contract.streams_harness import (
    dead_letters,
    drained,
    frozen,
    impatient,
    tapped,
    until,
)
from tests.servers import NatsServer


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    with impatient():
        yield


# faults ---------------------------------------------------------------------------------------------------------------


async def test_nats_killed_in_the_middle_of_an_envelope(own_nats: NatsServer) -> None:
    """Calls stop while the envelope may be another's; each message is called once, and reported."""
    settings = Nats(url=own_nats.url, max_stream_bytes=64 * 1024**2)
    own = SenderSettings(CHANNEL, slots=2, concurrency=2)
    async with sending(settings, own) as harness:
        harness.sender.gate = asyncio.Event()
        items = deliveries(8)
        await harness.give(*items)
        await until(lambda: harness.sender.under_way == 2)
        own_nats.end(signal.SIGKILL)
        await until(lambda: not harness.bus.client.is_connected)
        harness.peers.settled = set(harness.sender.calls)
        harness.sender.gate.set()
        await until(lambda: harness.sender.under_way == 0)
        assert len(harness.sender.calls) == 2
        own_nats.run()
        found = await harness.reported(8)
        await drained(harness.bus, SEND)
    assert harness.sender.times_called() == {1}
    assert facts(found) == {item.message_id: ("sent", None) for item in items}, "nobody was lost: all was reported"


async def test_a_frozen_nats_stops_the_calls_though_the_connection_looks_alive(own_nats: NatsServer) -> None:
    settings = Nats(url=own_nats.url, max_stream_bytes=64 * 1024**2)
    async with sending(settings, SenderSettings(CHANNEL, slots=1, concurrency=1)) as harness:
        harness.sender.gate = asyncio.Event()
        items = deliveries(4)
        await harness.give(*items)
        await until(lambda: harness.sender.under_way == 1)
        (held,) = harness.pipeline.consumer._held
        with frozen(own_nats):
            await until(lambda: not held.is_mine())
            harness.peers.settled = set(harness.sender.calls)
            harness.sender.gate.set()
            await until(lambda: harness.sender.under_way == 0)
            assert len(harness.sender.calls) == 1
        found = await harness.reported(4)
        await drained(harness.bus, SEND)
    assert harness.sender.times_called() == {1}
    assert facts(found) == {item.message_id: ("sent", None) for item in items}


async def test_stop_reports_the_calls_under_way_and_gives_the_rest_back(
    nats_settings: Nats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consume, "STOP_SECONDS", 0.1)
    items = deliveries(6)
    async with sending(nats_settings, SenderSettings(CHANNEL, slots=2, concurrency=2)) as harness:
        harness.sender.gate = asyncio.Event()
        await harness.give(*items)
        await until(lambda: harness.sender.under_way == 2)
        (held,) = harness.pipeline.consumer._held
        stopping = asyncio.create_task(harness.stop())
        await until(lambda: not held.is_mine())
        harness.sender.gate.set()
        await stopping
        assert set(facts(await harness.reported(2))) == set(harness.sender.calls)
        assert len(harness.sender.calls) == 2
        async with tapped(harness.bus, SEND, SUBJECT, DURABLE) as next_holder:
            rest = await next_holder.raw()
        assert rest.metadata.num_delivered == 1
        left = decode(rest.data, SendEnvelope)
        assert {item.message_id for item in left.items} == {item.message_id for item in items} - set(
            harness.sender.calls
        )
        assert not left.marked


async def test_a_message_that_defeats_the_pipeline_is_buried_and_its_siblings_flow(nats_settings: Nats) -> None:
    bad, *good = deliveries(3)
    async with sending(nats_settings) as harness:
        harness.peers.poison = {bad.message_id}
        await harness.give(bad, *good, marked=True)
        found = await harness.reported(3)
        await drained(harness.bus, SEND)
        (note,) = await dead_letters(harness.bus)
    assert facts(found) == {item.message_id: ("sent", None) for item in good} | {
        bad.message_id: ("failed", "dead_letter")
    }
    assert (note.message_id, note.reason) == (bad.message_id, "dead_letter")
    assert bad.message_id not in harness.sender.calls
