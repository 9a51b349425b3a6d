"""What cannot be processed is noted in DEAD in the form of the contract, without its content."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from nats.js import JetStreamContext

from libs.bus import Bus
from libs.consume import Consumer, Held
from libs.dead import DeadLetter
from libs.envelope import Accepted, DispatchEnvelope, encode
from libs.events import EventBatch
from libs.ids import new_id
from libs.subjects import dispatch, events, stream_of
from libs.subscribe import Subscriber

SECRET = b"a body that must not travel"
STREAM = stream_of("DISPATCH", "normal")


class Strict(DeadLetter, frozen=True, forbid_unknown_fields=True):
    """The contract, to the letter."""


@pytest.fixture
async def notes(bus: Bus) -> AsyncIterator[JetStreamContext.PullSubscription]:
    """What arrives in DEAD."""
    subscription = await bus.js.pull_subscribe("signal.dead.*", stream="DEAD")
    yield subscription
    await subscription.unsubscribe()


async def next_note(notes: JetStreamContext.PullSubscription) -> DeadLetter:
    (message,) = await notes.fetch(1, timeout=20)
    assert SECRET not in message.data
    return msgspec.json.decode(message.data, type=Strict)


def consumer(bus: Bus) -> Consumer[DispatchEnvelope]:
    async def fail(envelope: DispatchEnvelope, held: Held) -> None:
        raise ValueError(envelope.handoff_id)

    async def bury(envelope: DispatchEnvelope, held: Held) -> None:
        """Nothing to write down here."""

    subject = dispatch("normal")
    return Consumer(
        bus, DispatchEnvelope, stream=STREAM, durable="test", subject=subject, slots=1, handle=fail, bury=bury
    )


async def test_an_envelope_that_cannot_be_read(bus: Bus, notes: JetStreamContext.PullSubscription) -> None:
    reading = asyncio.create_task(consumer(bus).run())
    await bus.publish(dispatch("normal"), b"\xc1" + SECRET, msg_id="poison")
    found = await next_note(notes)
    assert (found.stream, found.subject, found.reason) == (STREAM, dispatch("normal"), "undecodable")
    assert found.message_id is None
    reading.cancel()


async def test_a_message_that_defeats_its_handler(bus: Bus, notes: JetStreamContext.PullSubscription) -> None:
    reading = asyncio.create_task(consumer(bus).run())
    accepted = Accepted(new_id(), new_id(), 1, SECRET, 0)
    envelope = DispatchEnvelope(new_id(), new_id(), "normal", [accepted])
    await bus.publish(dispatch("normal"), encode(envelope), msg_id="defeats")
    found = await next_note(notes)
    assert (found.reason, found.message_id) == ("dead_letter", accepted.message_id)
    assert found.deliveries == 3
    reading.cancel()


async def test_a_batch_of_events_that_cannot_be_read(bus: Bus, notes: JetStreamContext.PullSubscription) -> None:
    async def handle(_: EventBatch) -> None:
        raise AssertionError

    reading = asyncio.create_task(Subscriber(bus, durable="test", kinds=frozenset({"sent"}), handle=handle).run())
    subject = events(new_id())
    await bus.publish(subject, SECRET, msg_id="garbage")
    found = await next_note(notes)
    assert (found.stream, found.subject, found.reason, found.reader) == ("EVENTS", subject, "undecodable", "test")
    reading.cancel()
