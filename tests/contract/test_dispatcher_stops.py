"""Emergency stops at the dispatcher: what is stopped is held, whoever else goes on, and nobody guesses."""

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from libs.config import Nats
from libs.ids import new_id
from libs.rpc import Stop
from libs.stops import FRESH_SECONDS
from libs.subjects import stream_of
from services.dispatcher.__main__ import start
from tests.contract.dispatcher_harness import DISPATCH, DispatcherHarness, harness_on, settings
from tests.contract.streams_harness import APPLICATION, drained, impatient, stored, until
from tests.in_process import running

SINCE = 1_800_000_000_000


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    with impatient():
        yield


@pytest.fixture
async def service(nats_settings: Nats, key_ring_file: Path) -> AsyncIterator[DispatcherHarness]:
    async with (
        harness_on(nats_settings, key_ring_file) as harness,
        running("dispatcher", start, settings(nats_settings, key_ring_file)),
    ):
        yield harness


def stop(channel: str = "apns", application_id: str = APPLICATION) -> Stop:
    return Stop(application_id, channel, "key:k1", "an operator's own words", SINCE)


async def test_a_stopped_channel_is_held_and_the_other_goes_on(service: DispatcherHarness) -> None:
    service.stops.append(stop())
    apple = [service.accepted(service.subscriptions.add()) for _ in range(3)]
    android = service.accepted(service.subscriptions.add("AndroidPush"))
    await service.give(*apple, android)
    assert [item.message_id for item in (await service.sent("fcm")).items] == [android.message_id]
    held = await service.refused(3)
    assert set(held) == {item.message_id for item in apple}
    one = held[apple[0].message_id]
    assert (one.kind, one.reason, one.attempt, one.retry_class) == ("held", "emergency_stop", 1, None)
    assert one.data == {"channel": "apns", "stopped": "apns", "since_ms": SINCE}
    assert one.key == f"stop:apns:{SINCE}"


async def test_a_stop_of_the_application_holds_every_channel(service: DispatcherHarness) -> None:
    service.stops.append(stop("*"))
    items = [service.accepted(service.subscriptions.add(kind)) for kind in ("iOSPush", "AndroidPush")]
    await service.give(*items)
    assert {one.kind for one in (await service.refused(2)).values()} == {"held"}


async def test_another_applications_stop_holds_nothing(service: DispatcherHarness) -> None:
    service.stops.append(stop("*", new_id()))
    await service.give(item := service.accepted(service.subscriptions.add()))
    assert (await service.sent()).items[0].message_id == item.message_id


async def test_whoever_would_not_get_it_anyway_is_refused_at_once(service: DispatcherHarness) -> None:
    service.stops.append(stop())
    await service.give(service.accepted(service.subscriptions.add(status=-10)))
    (refused,) = (await service.refused(1)).values()
    assert (refused.kind, refused.reason) == ("failed", "subscription_disabled")


async def fate(service: DispatcherHarness) -> str:
    """What becomes of a new message."""
    outcomes = await stored(service.bus, stream_of("OUTCOME", "normal"))
    await service.give(service.accepted(service.subscriptions.add()))
    await drained(service.bus, DISPATCH)
    return "sent" if await stored(service.bus, stream_of("OUTCOME", "normal")) == outcomes else "held"


async def test_set_and_release_are_seen_within_two_seconds(service: DispatcherHarness) -> None:
    assert await fate(service) == "sent"
    service.stops.append(stop())

    async def is_held() -> bool:
        return await fate(service) == "held"

    async def is_sent() -> bool:
        return await fate(service) == "sent"

    await until(is_held, seconds=2)
    service.stops.clear()
    await until(is_sent, seconds=2)


async def test_one_question_a_second_serves_all_envelopes(service: DispatcherHarness) -> None:
    began = time.monotonic()
    for _ in range(20):
        await fate(service)
    assert service.stops_asked <= (time.monotonic() - began) / FRESH_SECONDS + 1


async def test_while_nobody_can_tell_what_was_known_serves_on(service: DispatcherHarness) -> None:
    service.stops.append(stop())
    assert await fate(service) == "held"
    service.stops_away = True
    asked = service.stops_asked

    async def still_held_after_asking() -> bool:
        assert await fate(service) == "held"
        return service.stops_asked > asked + 1

    await until(still_held_after_asking)


async def test_until_the_stops_are_known_an_envelope_waits(nats_settings: Nats, key_ring_file: Path) -> None:
    async with harness_on(nats_settings, key_ring_file) as harness:
        harness.stops_away = True
        async with running("dispatcher", start, settings(nats_settings, key_ring_file)):
            await harness.give(item := harness.accepted(harness.subscriptions.add()))
            await until(lambda: harness.stops_asked >= 2)
            assert await stored(harness.bus, DISPATCH) == 1
            harness.stops_away = False
            assert [found.message_id for found in (await harness.sent()).items] == [item.message_id]
