"""Emergency stops at a sender: checked before each call, also in the middle of an envelope."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from libs.config import Nats
from libs.envelope import Delivery
from libs.rpc import Stop
from services.senders.contract import Accepted, Result
from services.senders.settings import Sender as SenderSettings
from tests.contract.sender_harness import CHANNEL, SEND, SenderHarness, deliveries, delivery, facts, sending
from tests.contract.streams_harness import APPLICATION, drained, impatient, until

STOP = Stop(APPLICATION, CHANNEL, "key:k1", "", 1_800_000_000_000)
HELD = ("held", "emergency_stop")


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    with impatient():
        yield


async def stopped(harness: SenderHarness, stop: Stop) -> None:
    """Set, and seen by the pipeline."""
    harness.peers.stops.append(stop)

    async def seen() -> bool:
        await harness.stops.refresh()
        return harness.stops.of(stop.application_id, CHANNEL) is not None

    await until(seen, seconds=2)


@pytest.mark.parametrize("channel", [CHANNEL, "*"])
async def test_what_lies_on_send_is_given_back(nats_settings: Nats, channel: str) -> None:
    async with sending(nats_settings) as harness:
        await stopped(harness, Stop(APPLICATION, channel, "key:k1", "", 1))
        items = deliveries(5)
        await harness.give(*items)
        reported = await harness.reported(5)
        await drained(harness.bus, SEND)
        assert facts(reported) == {item.message_id: HELD for item in items}
        assert {one.retry_class for one in reported} == {None}
        assert harness.sender.calls == []


async def test_another_channels_stop_holds_nothing(nats_settings: Nats) -> None:
    async with sending(nats_settings) as harness:
        harness.peers.stops.append(Stop(APPLICATION, "fcm", "key:k1", "", 1))
        await harness.give(item := delivery())
        assert facts(await harness.reported(1)) == {item.message_id: ("sent", None)}


async def test_what_expired_is_expired(nats_settings: Nats) -> None:
    async with sending(nats_settings) as harness:
        await stopped(harness, STOP)
        await harness.give(item := delivery(deadline_ms=1))
        assert facts(await harness.reported(1)) == {item.message_id: ("expired", "expired")}


async def test_a_stop_in_the_middle_of_an_envelope_holds_the_rest_within_two_seconds(nats_settings: Nats) -> None:
    called_at: list[float] = []

    async def slow(item: Delivery) -> Result:
        called_at.append(time.monotonic())
        await asyncio.sleep(0.02)
        return Accepted(item.message_id)

    items = deliveries(400)
    async with sending(nats_settings, SenderSettings(CHANNEL, slots=1, concurrency=2)) as harness:
        harness.sender.answers = {item.message_id: slow for item in items}
        await harness.give(*items)
        await until(lambda: len(called_at) > 20)
        harness.peers.stops.append(STOP)
        stopped_at = time.monotonic()
        found = facts(await harness.reported(400))
        await drained(harness.bus, SEND)
    assert max(called_at) < stopped_at + 2
    assert {found[item.message_id] for item in items} == {("sent", None), HELD}
    assert sum(kind == "sent" for kind, _ in found.values()) == len(called_at)
