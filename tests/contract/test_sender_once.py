"""No provider is called a second time for one attempt without a fact that says why (R7, I3), on a real NATS."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator

import pytest

from libs import consume
from libs.clock import SystemClock
from libs.config import Nats
from libs.consume import Held
from libs.envelope import Delivery, Outcome
from services.senders.admission import Entry
from services.senders.contract import Postponed
from services.senders.outstanding import Call
from services.senders.settings import Sender as SenderSettings
from tests.contract.sender_harness import (
    CHANNEL,
    DURABLE,
    SEND,
    SUBJECT,
    SenderHarness,
    deliveries,
    delivery,
    facts,
    sending,
)
from tests.contract.streams_harness import (
    connected,
    deliver_to_the_dying,
    drained,
    impatient,
    quick,
    until,
)
from tests.servers import NatsServer

ONE = SenderSettings(CHANNEL, slots=1, concurrency=1, slow_after=0.2)


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    with impatient():
        yield


@contextlib.asynccontextmanager
async def beside(settings: Nats, own: SenderSettings) -> AsyncIterator[SenderHarness]:
    """Another process, whose peers others serve."""
    async with connected(quick(settings), "beside") as bus:
        harness = SenderHarness(bus, own)
        await harness.start()
        yield harness
        await harness.stop()


def lost(outcomes: list[Outcome]) -> set[str]:
    return {item.message_id for item in outcomes if item.reason == "sender_lost"}


async def test_a_failure_in_the_middle_of_an_envelope_does_not_forget_the_calls_under_way(
    nats_settings: Nats,
) -> None:
    items = deliveries(3)
    async with sending(nats_settings, ONE, clock=SystemClock()) as harness:
        admission, failed = harness.pipeline._admission, asyncio.Event()
        admit = admission.admit

        async def fail_at_the_second(entry: Entry, item: Delivery, left: int) -> Call | Postponed:
            if item.message_id == items[1].message_id and not failed.is_set():
                failed.set()
                raise RuntimeError("a bug")
            return await admit(entry, item, left)

        harness.sender.gate = asyncio.Event()
        admission.admit = fail_at_the_second  # type: ignore[method-assign]
        await harness.give(*items)
        await failed.wait()
        loop = asyncio.get_running_loop()
        later = loop.time() + 0.5
        await until(lambda: loop.time() > later)
        assert len(harness.sender.calls) == 1, "it comes again once its calls are over"
        harness.peers.settled = set(harness.sender.calls)
        harness.sender.gate.set()
        await harness.reported(3)
        await drained(harness.bus, SEND)
    assert harness.sender.times_called() == {1}


async def test_stops_that_cannot_be_read_are_unknown_and_those_known_last_serve_on(nats_settings: Nats) -> None:
    items = deliveries(3)
    async with sending(nats_settings, ONE, clock=SystemClock()) as harness:
        harness.sender.gate = asyncio.Event()
        await harness.give(*items)
        await until(lambda: harness.sender.under_way == 1)
        harness.peers.stops = None  # type: ignore[assignment]  # as a later release may answer
        harness.stops._ask_at = 0.0
        await until(lambda: harness.sender.under_way == 3)
        harness.sender.gate.set()
        await harness.reported(3)
        info = await harness.bus.js.consumer_info(SEND, DURABLE)
        await drained(harness.bus, SEND)
    assert info.num_redelivered == 0
    assert harness.sender.times_called() == {1}


async def test_a_holder_lost_before_an_envelope_was_split_is_a_fact_too(nats_settings: Nats) -> None:
    known, *unknown = deliveries(3)
    async with connected(nats_settings, "early") as early:
        await SenderHarness(early, ONE).give(known, *unknown)
        await deliver_to_the_dying(early, SEND, SUBJECT, DURABLE, 2)
    async with sending_late(nats_settings, known.message_id) as harness:
        found = await harness.reported(4)
        await drained(harness.bus, SEND)
    assert lost(found) == {item.message_id for item in unknown}
    assert harness.sender.times_called() == {1}
    assert known.message_id not in harness.sender.calls


@contextlib.asynccontextmanager
async def sending_late(settings: Nats, *settled: str) -> AsyncIterator[SenderHarness]:
    """Begins when the streams hold work already."""
    async with connected(quick(settings), "sender") as bus:
        harness = SenderHarness(bus, SenderSettings(CHANNEL))
        harness.peers.settled = set(settled)
        await harness.peers.serve_application(bus)
        await harness.peers.serve_lifecycle(bus)
        await harness.outcomes.open()
        await harness.start()
        yield harness
        await harness.stop()


async def test_who_could_not_tell_of_a_lost_holder_tells_when_it_comes_again(nats_settings: Nats) -> None:
    item = delivery()
    async with connected(nats_settings, "early") as early:
        await SenderHarness(early, ONE).give(item)
        await deliver_to_the_dying(early, SEND, SUBJECT, DURABLE, 1)
    async with sending(nats_settings, ONE, lifecycle=False) as harness:
        consumer = harness.pipeline.consumer
        await until(lambda: bool(consumer._held))
        (held,) = consumer._held
        held._leased_until = 0.0
        await until(lambda: held not in consumer._held)
        async with connected(nats_settings, "lifecycle") as bus:
            await harness.peers.serve_lifecycle(bus)
            found = await harness.reported(2)
            await drained(harness.bus, SEND)
    assert [(one.kind, one.reason) for one in found] == [("errored", "sender_lost"), ("sent", None)]


async def test_what_is_given_back_in_order_was_not_lost(nats_settings: Nats, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next holder calls the rest, as a first delivery, and no fact says that somebody may have called it."""
    monkeypatch.setattr(consume, "STOP_SECONDS", 0.1)
    items = deliveries(6)
    own = SenderSettings(CHANNEL, slots=2, concurrency=2)
    async with sending(nats_settings, own) as harness:
        harness.sender.gate = asyncio.Event()
        await harness.give(*items)
        await until(lambda: harness.sender.under_way == 2)
        (held,) = harness.pipeline.consumer._held
        stopping = asyncio.create_task(harness.stop())
        await until(lambda: not held.is_mine())
        harness.sender.gate.set()
        await stopping
        async with beside(nats_settings, own) as next_holder:
            found = await harness.reported(6)
            await drained(harness.bus, SEND)
    assert facts(found) == {item.message_id: ("sent", None) for item in items}
    assert len(found) == 6
    assert len(harness.sender.calls) == 2
    assert len(next_holder.sender.calls) == 4


async def test_an_envelope_that_is_taken_while_the_process_stops_is_given_back_too(nats_settings: Nats) -> None:
    item = delivery()
    async with sending(nats_settings, ONE) as harness:
        consumer = harness.pipeline.consumer
        taken: list[Held] = []
        take = consumer._take

        async def stop_at_once(held: Held) -> None:
            taking = asyncio.create_task(take(held))
            await asyncio.sleep(0)
            await consumer.stop()
            taken.append(held)
            await taking

        consumer._take = stop_at_once  # type: ignore[method-assign]
        await harness.give(item)
        await until(lambda: bool(taken))
    assert taken[0].finish_by < float("inf")


async def test_who_was_away_while_the_server_forgot_calls_no_further(own_nats: NatsServer) -> None:
    """A server that crashed may have given the envelope to another as new: what is under way then may be repeated,
    what was not yet called may not."""
    settings = Nats(url=own_nats.url, max_stream_bytes=64 * 1024**2)
    items = deliveries(8)
    async with sending(settings, ONE) as harness:
        harness.sender.gate = asyncio.Event()
        await harness.give(*items)
        await until(lambda: harness.sender.under_way == 1)
        (held,) = harness.pipeline.consumer._held
        own_nats.end(signal.SIGKILL)
        own_nats.run()
        await until(lambda: harness.bus.reconnects > 0 and harness.bus.client.is_connected)
        assert not held.is_mine()
        harness.peers.settled = set(harness.sender.calls)
        harness.sender.gate.set()
        await harness.reported(8)
        await drained(harness.bus, SEND)
    assert harness.sender.times_called() == {1}
