"""One envelope of SEND becomes provider calls and outcomes, whatever breaks meanwhile (R7, R11), on a real NATS."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest

from libs.bus import Bus
from libs.config import Nats
from libs.envelope import OutcomeEnvelope, encode
from libs.ids import new_id
from libs.rpc import Credential, Stop
from services.senders.contract import Accepted, Rejected, TryLater
from services.senders.report import MOST_WAITING
from services.senders.settings import Sender as SenderSettings
from tests.contract.sender_harness import (
    CHANNEL,
    DURABLE,
    OUTCOME,
    OUTCOME_SUBJECT,
    SECRET,
    SEND,
    SUBJECT,
    SenderHarness,
    deliveries,
    delivery,
    facts,
    sending,
    until_taken,
)
from tests.contract.streams_harness import (
    APPLICATION,
    connected,
    deliver_to_the_dying,
    drained,
    impatient,
    stored,
    until,
)

OTHER = "01990000-0000-7000-8000-00000000000b"


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    with impatient():
        yield


# answers --------------------------------------------------------------------------------------------------------------


async def test_each_answer_of_the_provider_is_a_fact(nats_settings: Nats) -> None:
    good, bad, busy, silent, late = [*deliveries(4), delivery(deadline_ms=1)]
    async with sending(nats_settings) as harness:
        harness.sender.answers = {
            good.message_id: Accepted("projects/p/messages/1"),
            bad.message_id: Rejected("Unregistered", -10),
            busy.message_id: TryLater("TooManyRequests", "throttled", 7.0),
            silent.message_id: TryLater("timeout", "network", unknown=True),
        }
        await harness.give(good, bad, busy, silent, late)
        found = {item.message_id: item for item in await harness.reported(5)}
        await drained(harness.bus, SEND)
    assert {i: (o.kind, o.reason, o.retry_class, o.retry_after) for i, o in found.items()} == {
        good.message_id: ("sent", None, None, None),
        bad.message_id: ("failed", "Unregistered", None, None),
        busy.message_id: ("errored", "TooManyRequests", "throttled", 7.0),
        silent.message_id: ("errored", "timeout", "network", None),
        late.message_id: ("expired", "expired", None, None),
    }
    assert found[good.message_id].data["provider_message_id"] == "projects/p/messages/1"
    assert (found[bad.message_id].data["disable"], found[bad.message_id].data["token_version"]) == (-10, 1)
    assert found[silent.message_id].data["outcome"] == "unknown"
    assert {i for i, o in found.items() if "retry_after" in o.data} == {busy.message_id}
    assert found[busy.message_id].data["retry_after"] == 7.0
    assert late.message_id not in harness.sender.calls


@pytest.mark.parametrize("error", [RuntimeError("a bug"), asyncio.CancelledError()])
async def test_a_sender_that_raises_costs_no_capacity(nats_settings: Nats, error: BaseException) -> None:
    own = SenderSettings(CHANNEL, slots=1, concurrency=1, outcome_batch=1)
    cursed = deliveries(3)
    async with sending(nats_settings, own) as harness:
        harness.sender.answers = {item.message_id: error for item in cursed}
        blessed = deliveries(3)
        await harness.give(*cursed, *blessed)
        found = await harness.reported(6)
        await drained(harness.bus, SEND)
    assert facts(found) == {item.message_id: ("errored", "sender_error") for item in cursed} | {
        item.message_id: ("sent", None) for item in blessed
    }
    assert all(item.data["outcome"] == "unknown" for item in found if item.kind == "errored")


async def test_an_answer_that_cannot_travel_is_reported_without_its_details(nats_settings: Nats) -> None:
    odd, good = deliveries(2)
    async with sending(nats_settings) as harness:
        harness.sender.answers[odd.message_id] = Rejected("Unregistered", data={"timestamp": 2**70})
        await harness.give(odd, good)
        found = await harness.reported(2)
        await drained(harness.bus, SEND)
    assert facts(found) == {odd.message_id: ("failed", "unreadable_answer"), good.message_id: ("sent", None)}


# bounds ---------------------------------------------------------------------------------------------------------------


async def test_calls_under_way_are_bounded(nats_settings: Nats) -> None:
    own = SenderSettings(CHANNEL, slots=4, concurrency=5)
    async with sending(nats_settings, own) as harness:
        harness.sender.gate = asyncio.Event()
        for _ in range(3):
            await harness.give(*deliveries(10))
        await until(lambda: harness.sender.under_way == 5)
        harness.sender.gate.set()
        await harness.reported(30)
        await drained(harness.bus, SEND)
    assert harness.sender.most_under_way == 5
    assert harness.sender.times_called() == {1}


async def test_what_is_called_but_not_reported_is_bounded_while_outcomes_are_refused(nats_settings: Nats) -> None:
    """And nothing is acknowledged, lost or called twice: it goes on when the stream takes outcomes again."""
    own = SenderSettings(CHANNEL, slots=4, concurrency=4, outcome_batch=3)
    async with sending(nats_settings, own) as harness:
        items = deliveries(30)
        async with full_of_outcomes(harness.bus):
            await harness.give(*items[:15])
            await harness.give(*items[15:])
            await until(lambda: len(harness.sender.calls) == 7)
            await until(lambda: harness.sender.under_way == 0)
            assert await stored(harness.bus, SEND) == 2
        found = await harness.reported(30)
        await drained(harness.bus, SEND)
    assert facts(found) == {item.message_id: ("sent", None) for item in items}
    assert harness.sender.times_called() == {1}


async def test_what_is_held_but_not_reported_is_bounded_too(nats_settings: Nats) -> None:
    """No place in the lane is taken for it."""
    async with sending(nats_settings) as harness:
        harness.peers.stops = [Stop(APPLICATION, CHANNEL, "key:k1", "", 1)]
        harness.stops._ask_at = 0.0
        reporter, items = harness.pipeline.reporter, [deliveries(500) for _ in range(8)]
        most = 0
        async with full_of_outcomes(harness.bus):
            for each in items:
                await harness.give(*each)
            await until_taken(harness, 4)
            loop = asyncio.get_running_loop()
            later = loop.time() + 1.0
            while loop.time() < later:
                most = max(most, reporter._count)
                await asyncio.sleep(0.01)
        found = await harness.reported(4_000)
        await drained(harness.bus, SEND)
    assert MOST_WAITING <= most <= MOST_WAITING + 10
    assert set(facts(found).values()) == {("held", "emergency_stop")}
    assert len(found) == 4_000


@contextlib.asynccontextmanager
async def full_of_outcomes(bus: Bus) -> AsyncIterator[None]:
    """OUTCOME has room for nothing."""
    info = await bus.js.stream_info(OUTCOME)
    await bus.js.update_stream(info.config.evolve(max_msgs=1))
    stuffing = OutcomeEnvelope(APPLICATION, "normal", [])
    await bus.publish(OUTCOME_SUBJECT.replace(CHANNEL, "other"), encode(stuffing), msg_id=new_id())
    yield
    await bus.js.purge_stream(OUTCOME)
    await bus.js.update_stream(info.config.evolve(max_msgs=-1))


async def test_outcomes_of_many_applications_do_not_wait_for_each_other(nats_settings: Nats) -> None:
    applications = [new_id() for _ in range(8)]
    own = SenderSettings(CHANNEL, slots=8, outcome_wait=1.0)
    async with sending(nats_settings, own) as harness:
        harness.peers.credentials = {each: Credential(1, SECRET) for each in applications}
        harness.sender.gate = asyncio.Event()
        for each in applications:
            await harness.give(*deliveries(5), application_id=each)
        await until(lambda: harness.sender.under_way == 40)
        before = (await harness.bus.stream_state(OUTCOME)).state.last_seq
        started = asyncio.get_running_loop().time()
        harness.sender.gate.set()
        await harness.reported(40)
        took = asyncio.get_running_loop().time() - started
        envelopes = (await harness.bus.stream_state(OUTCOME)).state.last_seq - before
    assert 8 <= envelopes < 24, "an envelope holds one application, and all that was there"
    assert took < 3.0


# suspicion ------------------------------------------------------------------------------------------------------------


async def test_a_first_delivery_asks_nobody(nats_settings: Nats) -> None:
    async with sending(nats_settings) as harness:
        await harness.give(*deliveries(3))
        await harness.reported(3)
    assert harness.peers.asked == []


async def test_marked_work_is_called_only_as_far_as_lifecycle_does_not_know_it(nats_settings: Nats) -> None:
    known, new = deliveries(2)
    async with sending(nats_settings) as harness:
        harness.peers.settled = {known.message_id}
        await harness.give(known, new, marked=True)
        found = await harness.reported(1)
        await drained(harness.bus, SEND)
    assert harness.sender.calls == [new.message_id]
    assert facts(found) == {new.message_id: ("sent", None)}
    assert harness.peers.asked[0].attempts == {known.message_id: 1, new.message_id: 1}


async def test_work_of_a_holder_who_was_lost_is_an_unknown_fact_and_then_called(nats_settings: Nats) -> None:
    known, new = deliveries(2)
    async with connected(nats_settings, "early") as early:
        harness = SenderHarness(early, SenderSettings(CHANNEL))
        await harness.give(known, new)
        await deliver_to_the_dying(early, SEND, SUBJECT, DURABLE, 1)
    async with connected(nats_settings, "sender") as bus:
        harness = SenderHarness(bus, SenderSettings(CHANNEL))
        harness.peers.settled = {known.message_id}
        await harness.peers.serve_application(bus)
        await harness.peers.serve_lifecycle(bus)
        await harness.outcomes.open()
        await harness.start()
        first, second = await harness.reported(2)
        await drained(bus, SEND)
        await harness.stop()
    assert (first.message_id, first.kind, first.reason) == (new.message_id, "errored", "sender_lost")
    assert (first.data["outcome"], first.retry_class) == ("unknown", None)
    assert (second.message_id, second.kind) == (new.message_id, "sent")
    assert harness.sender.calls == [new.message_id]


async def test_suspect_work_waits_for_lifecycle_without_spending_deliveries(nats_settings: Nats) -> None:
    items = deliveries(2)
    async with sending(nats_settings, lifecycle=False) as harness:
        await harness.give(*items, marked=True)
        loop = asyncio.get_running_loop()
        later = loop.time() + 2.0
        await until(lambda: loop.time() > later)
        assert harness.sender.calls == []
        async with connected(nats_settings, "lifecycle") as bus:
            await harness.peers.serve_lifecycle(bus)
            found = await harness.reported(2)
            info = await harness.bus.js.consumer_info(SEND, DURABLE)
            await drained(harness.bus, SEND)
    assert facts(found) == {item.message_id: ("sent", None) for item in items}, "no fact says that a holder was lost"
    assert (info.delivered.consumer_seq, info.num_redelivered) == (1, 0)


async def test_a_copy_waits_for_the_work_under_way_and_asks_what_came_of_it(nats_settings: Nats) -> None:
    """Acknowledged sooner, what the work under way gives back would be lost."""
    items = deliveries(3)
    async with sending(nats_settings) as harness:
        harness.sender.gate = asyncio.Event()
        await harness.give(*items)
        await until(lambda: harness.sender.under_way == 3)
        await harness.give(*items)
        await until_taken(harness, 2)
        assert harness.peers.asked == []
        harness.peers.settled = {item.message_id for item in items}
        harness.sender.gate.set()
        await harness.reported(3)
        await drained(harness.bus, SEND)
    assert harness.sender.times_called() == {1}
    assert len(harness.peers.asked) == 1
