"""DISPATCH -> SEND or OUTCOME: the dispatcher in this process, on a real NATS, whatever breaks meanwhile."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from libs.config import Nats
from libs.envelope import SendEnvelope
from libs.ids import new_id
from libs.seal import DataKey, associated
from services.dispatcher.__main__ import start
from services.dispatcher.dispatch import DURABLE
from tests.contract.dispatcher_harness import (
    DISPATCH,
    FAR,
    NOW_MS,
    SUBJECT,
    TOKEN,
    DispatcherHarness,
    harness_on,
    settings,
)
from tests.contract.streams_harness import (
    ACK_WAIT,
    APPLICATION,
    consumer_of,
    dead_letters,
    deliver_to_the_dying,
    drained,
    impatient,
    stored,
    until,
)
from tests.in_process import running
from tests.servers import NatsServer


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    with impatient():
        yield


@pytest.fixture
async def idle(nats_settings: Nats, key_ring_file: Path) -> AsyncIterator[DispatcherHarness]:
    async with harness_on(nats_settings, key_ring_file) as harness:
        yield harness


@pytest.fixture
async def service(
    idle: DispatcherHarness, nats_settings: Nats, key_ring_file: Path
) -> AsyncIterator[DispatcherHarness]:
    """Running, and warm: what comes now is not suspect, and the clock is Postgres'."""
    async with running("dispatcher", start, settings(nats_settings, key_ring_file)):
        await idle.give(idle.accepted(idle.subscriptions.add()))
        await idle.sent()
        yield idle


# deciding and routing -------------------------------------------------------------------------------------------------


async def test_a_message_goes_to_the_sender_of_its_channel_opened(service: DispatcherHarness) -> None:
    item = service.accepted(service.subscriptions.add("iOSPush"))
    await service.give(item, handoff_id="h1")
    found = await service.sent()
    await drained(service.bus, DISPATCH)
    assert (found.handoff_id, found.application_id, found.lane, found.channel) == ("h1", APPLICATION, "normal", "apns")
    (delivery,) = found.items
    assert (delivery.message_id, delivery.token, delivery.token_version) == (item.message_id, TOKEN, 3)
    assert (delivery.registered_at_ms, delivery.test, delivery.deadline_ms) == (77, True, FAR)
    assert (delivery.content.title, delivery.content.body) == ("안녕", item.message_id)
    assert not found.marked


async def test_one_envelope_is_parted_by_channel(service: DispatcherHarness) -> None:
    apple = [service.accepted(service.subscriptions.add("iOSPush")) for _ in range(2)]
    google = [service.accepted(service.subscriptions.add("AndroidPush")) for _ in range(3)]
    await service.give(apple[0], *google, apple[1])
    by_channel = {channel: [d.message_id for d in (await service.sent(channel)).items] for channel in ("apns", "fcm")}
    assert by_channel == {"apns": [i.message_id for i in apple], "fcm": [i.message_id for i in google]}


async def test_every_refusal_says_why(service: DispatcherHarness) -> None:
    subscriptions = service.subscriptions
    erased = DataKey(new_id().encode()[:16], bytes(32))
    expected = {
        service.accepted(new_id()): ("failed", "subscription_gone"),
        service.accepted(subscriptions.add(status=-10)): ("failed", "subscription_disabled"),
        service.accepted(subscriptions.add(ad_consent=False), category="ad"): ("failed", "ad_consent_missing"),
        service.accepted(subscriptions.add("Email")): ("failed", "channel_unavailable"),
        service.accepted(subscriptions.add(), deadline_ms=NOW_MS - 1): ("expired", "expired"),
        service.accepted(subscriptions.add(key=erased)): ("failed", "content_erased"),
    }
    good = service.accepted(subscriptions.add())
    await service.give(*expected, good)
    found = await service.refused(len(expected))
    assert {i: (o.kind, o.reason) for i, o in found.items()} == {i.message_id: e for i, e in expected.items()}
    disabled = next(o for o in found.values() if o.reason == "subscription_disabled")
    assert disabled.data["subscription_status"] == -10
    assert [item.message_id for item in (await service.sent()).items] == [good.message_id]
    await drained(service.bus, DISPATCH)


# suspicion ------------------------------------------------------------------------------------------------------------


async def test_marked_work_stays_marked(service: DispatcherHarness) -> None:
    await service.give(service.accepted(service.subscriptions.add()), marked=True)
    assert (await service.sent()).marked


async def test_a_backlog_from_before_may_have_been_dispatched(
    idle: DispatcherHarness, nats_settings: Nats, key_ring_file: Path
) -> None:
    await idle.give(idle.accepted(idle.subscriptions.add()))
    async with running("dispatcher", start, settings(nats_settings, key_ring_file)):
        assert (await idle.sent()).marked


async def test_what_a_killed_dispatcher_had_published_is_not_published_again(
    idle: DispatcherHarness, nats_settings: Nats, key_ring_file: Path
) -> None:
    """Killed after it published and before it acknowledged: the same hand-off comes again."""
    item, other = (idle.accepted(idle.subscriptions.add()) for _ in range(2))
    async with running("dispatcher", start, settings(nats_settings, key_ring_file)):
        await idle.give(item, handoff_id="h")
        await idle.give(item, handoff_id="h")
        await drained(idle.bus, DISPATCH)
        await idle.give(other)
        found = [await idle.sent(), await idle.sent()]
    assert [delivery.message_id for envelope in found for delivery in envelope.items] == [
        item.message_id,
        other.message_id,
    ]


async def test_a_second_decision_with_other_members_is_published_beside_the_first(service: DispatcherHarness) -> None:
    """Equal in number, first and last: a name made of those alone would have the stream drop the second."""
    subscriptions = [service.subscriptions.add() for _ in range(4)]
    items = [service.accepted(each) for each in subscriptions]
    recipients = service.subscriptions.recipients

    async def sent_while_disabled(subscription_id: str) -> SendEnvelope:
        good = recipients[subscription_id]
        recipients[subscription_id] = msgspec.structs.replace(good, status=-2)
        await service.give(*items, handoff_id="h")
        found = await service.sent()
        recipients[subscription_id] = good
        return found

    first, second = await sent_while_disabled(subscriptions[1]), await sent_while_disabled(subscriptions[2])
    ids = [item.message_id for item in items]
    assert [delivery.message_id for delivery in first.items] == [ids[0], ids[2], ids[3]]
    assert [delivery.message_id for delivery in second.items] == [ids[0], ids[1], ids[3]]


# faults ---------------------------------------------------------------------------------------------------------------


async def test_a_subscription_service_that_is_away_is_waited_for(nats_settings: Nats, key_ring_file: Path) -> None:
    async with (
        harness_on(nats_settings, key_ring_file, subscription=False) as harness,
        running("dispatcher", start, settings(nats_settings, key_ring_file)),
    ):
        item = harness.accepted(harness.subscriptions.add())
        await harness.give(item)
        loop = asyncio.get_running_loop()
        later = loop.time() + 1.5 * ACK_WAIT
        await until(lambda: loop.time() > later)
        await harness.subscriptions.serve(harness.bus)
        found = await harness.sent()
        info = await consumer_of(harness.bus, DISPATCH, DURABLE)
    assert [delivery.message_id for delivery in found.items] == [item.message_id]
    assert info.delivered is not None
    assert info.delivered.consumer_seq == 1


async def test_a_message_that_cannot_be_decided_is_buried_and_its_siblings_flow(service: DispatcherHarness) -> None:
    good, bad = (service.accepted(service.subscriptions.add()) for _ in range(2))
    bound_to = associated(APPLICATION, "message_events.sealed", bad.message_id)
    bad = msgspec.structs.replace(bad, sealed=service.subscriptions.key.seal(b"\xc1 secret", bound_to))
    await service.give(good, bad)
    found = await service.refused(1)
    assert (found[bad.message_id].kind, found[bad.message_id].reason) == ("failed", "dead_letter")
    assert [delivery.message_id for delivery in (await service.sent()).items] == [good.message_id]
    await drained(service.bus, DISPATCH)
    (note,) = await dead_letters(service.bus)
    assert (note.stream, note.message_id, note.reason) == (DISPATCH, bad.message_id, "dead_letter")


async def test_a_holder_that_was_killed_loses_nothing(
    idle: DispatcherHarness, nats_settings: Nats, key_ring_file: Path
) -> None:
    items = [idle.accepted(idle.subscriptions.add()) for _ in range(3)]
    await idle.give(*items)
    await deliver_to_the_dying(idle.bus, DISPATCH, SUBJECT, DURABLE, 2)
    async with running("dispatcher", start, settings(nats_settings, key_ring_file)):
        found = [(await idle.sent()) for _ in items]
    assert {envelope.items[0].message_id for envelope in found} == {item.message_id for item in items}
    assert all(envelope.marked for envelope in found)


async def test_an_end_in_the_middle_finishes_what_is_in_hand(
    idle: DispatcherHarness, nats_settings: Nats, key_ring_file: Path
) -> None:
    idle.subscriptions.gate = asyncio.Event()
    async with running("dispatcher", start, settings(nats_settings, key_ring_file, slots=1)) as runtime:
        await idle.give(idle.accepted(idle.subscriptions.add()))
        await until(lambda: len(idle.subscriptions.asked) == 1)
        runtime.stopping.set()
        await idle.give(idle.accepted(idle.subscriptions.add()))
        idle.subscriptions.gate.set()
    await idle.sent()
    assert await stored(idle.bus, DISPATCH) == 1


async def test_a_killed_nats_loses_nothing(own_nats: NatsServer, key_ring_file: Path) -> None:
    nats = Nats(url=own_nats.url, max_stream_bytes=64 * 1024**2)
    async with (
        harness_on(nats, key_ring_file) as harness,
        running("dispatcher", start, settings(nats, key_ring_file)),
    ):
        harness.subscriptions.gate = asyncio.Event()
        item = harness.accepted(harness.subscriptions.add())
        await harness.give(item)
        await until(lambda: bool(harness.subscriptions.asked))
        own_nats.end(signal.SIGKILL)
        harness.subscriptions.gate.set()
        own_nats.run()
        found = await harness.sent()
        await drained(harness.bus, DISPATCH)
    assert [delivery.message_id for delivery in found.items] == [item.message_id]
