"""A recipient's country chooses the region; a region that nobody serves is seen. Real NATS."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from libs import telemetry
from libs.clock import FakeClock
from libs.config import Nats
from libs.envelope import SendEnvelope, encode
from libs.ids import new_id
from libs.presence import Alive, Presence
from libs.subjects import send
from services.dispatcher.__main__ import start
from services.dispatcher.regions import Regions
from services.dispatcher.unserved import SILENT_SECONDS, Unserved
from tests.contract.dispatcher_harness import DISPATCH, SEND, DispatcherHarness, harness_on, settings
from tests.contract.sender_harness import deliveries
from tests.contract.streams_harness import APPLICATION, Tap, drained, impatient, stored
from tests.in_process import running

MAP = {"KR": "icn", "JP": "icn", "DE": "fra"}
ROUTES = [(channel, region) for channel in ("apns", "fcm") for region in ("icn", "fra", "iad")]


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    with impatient():
        yield


class Routed:
    """A dispatcher with a map, and what it sends on each route."""

    def __init__(self, harness: DispatcherHarness) -> None:
        self.harness = harness
        self.taps = {(c, r): Tap(harness.bus, SEND, send("normal", c, r), f"{c}_{r}") for c, r in ROUTES}

    async def sent(self, channel: str, region: str) -> SendEnvelope:
        return await self.taps[channel, region].next(SendEnvelope)


@contextlib.asynccontextmanager
async def dispatching(
    harness: DispatcherHarness, nats: Nats, ring: Path, regions: dict[str, str]
) -> AsyncIterator[None]:
    chosen = settings(nats, ring)
    own = msgspec.structs.replace(chosen.dispatcher, region="iad", regions=regions)
    async with running("dispatcher", start, msgspec.structs.replace(chosen, dispatcher=own)):
        yield


@pytest.fixture
async def routed(nats_settings: Nats, key_ring_file: Path) -> AsyncIterator[Routed]:
    async with harness_on(nats_settings, key_ring_file) as harness:
        found = Routed(harness)
        for tap in found.taps.values():
            await tap.open()
        yield found


def to(harness: DispatcherHarness, country: str | None, kind: str = "iOSPush") -> str:
    return harness.subscriptions.add(kind, country=country)


async def test_one_envelope_is_parted_by_channel_and_region(
    routed: Routed, nats_settings: Nats, key_ring_file: Path
) -> None:
    harness = routed.harness
    countries = ["KR", "DE", None, "JP", "US", "KR"]
    items = [(harness.accepted(to(harness, country)), country) for country in countries]
    android = harness.accepted(to(harness, "DE", "AndroidPush"))
    async with dispatching(harness, nats_settings, key_ring_file, MAP):
        await harness.give(*(item for item, _ in items), android)
        found = {region: await routed.sent("apns", region) for region in ("icn", "fra", "iad")}
        other = await routed.sent("fcm", "fra")
        await drained(harness.bus, DISPATCH)
    assert {region: [d.message_id for d in envelope.items] for region, envelope in found.items()} == {
        region: [item.message_id for item, country in items if MAP.get(country or "", "iad") == region]
        for region in ("icn", "fra", "iad")
    }
    assert {envelope.region for envelope in found.values()} == {"icn", "fra", "iad"}
    assert [d.message_id for d in other.items] == [android.message_id]
    assert await stored(harness.bus, SEND) == 0


async def test_a_hand_off_dispatched_again_is_dropped_in_every_region(
    routed: Routed, nats_settings: Nats, key_ring_file: Path
) -> None:
    harness = routed.harness
    items = [harness.accepted(to(harness, country)) for country in ("KR", "DE")]
    async with dispatching(harness, nats_settings, key_ring_file, MAP):
        await harness.give(*items, handoff_id="h")
        await harness.give(*items, handoff_id="h")
        await drained(harness.bus, DISPATCH)
    assert await stored(harness.bus, SEND) == 2


async def test_who_moves_between_two_dispatches_of_a_hand_off_is_sent_to_from_one_region(
    routed: Routed, nats_settings: Nats, key_ring_file: Path
) -> None:
    harness = routed.harness
    subscription = to(harness, "KR")
    item = harness.accepted(subscription)
    async with dispatching(harness, nats_settings, key_ring_file, MAP):
        await harness.give(item, handoff_id="h")
        await routed.sent("apns", "icn")
        recipients = harness.subscriptions.recipients
        recipients[subscription] = msgspec.structs.replace(recipients[subscription], country="DE")
        await harness.give(item, handoff_id="h")
        await drained(harness.bus, DISPATCH)
    assert await stored(harness.bus, SEND) == 0


# regions without a sender ---------------------------------------------------------------------------------------------


class Watch:
    """What the dispatcher sees of regions, at times that the test chooses."""

    def __init__(self, harness: DispatcherHarness, regions: Regions) -> None:
        self.clock = FakeClock()
        self.presence = Presence(harness.bus, self.clock)
        self.unserved = Unserved(harness.bus, self.presence, regions)

    async def after(self, seconds: float, *words: Alive) -> list[tuple[str, str, int]]:
        """What is warned of."""
        for _ in range(int(seconds)):
            self.clock.advance(1)
            self.presence.listening()
            for word in words:
                self.presence.hear(word)
        with capture_logs() as logs:
            await self.unserved.look()
        return [(log["channel"], log["region"], log["envelopes"]) for log in logs if log["event"] == "no_sender_lives"]


def pending(channel: str, region: str) -> float:
    value: float = telemetry.gauge("unserved_pending", channel=channel, region=region)._value.get()
    return value


ALL = [Alive(channel, region, f"{channel}{region}", 1) for channel in ("apns", "fcm") for region in ("iad", "fra")]


async def test_a_region_of_the_map_that_nobody_serves_is_told_once_and_counted(routed: Routed) -> None:
    harness = routed.harness
    watch = Watch(harness, Regions("iad", {"DE": "fra", "FR": "farnce"}))
    envelope = SendEnvelope(new_id(), APPLICATION, "normal", "apns", "farnce", deliveries(3), False)
    assert await watch.after(SILENT_SECONDS - 1, *ALL) == []
    assert await watch.after(1, *ALL) == [("apns", "farnce", 0), ("fcm", "farnce", 0)]
    await harness.bus.publish(send("normal", "apns", "farnce"), encode(envelope), msg_id=new_id())
    assert await watch.after(5, *ALL) == []
    assert (pending("apns", "farnce"), pending("fcm", "farnce"), pending("apns", "fra")) == (1, 0, 0)
    assert await watch.after(5, *ALL, Alive("apns", "farnce", "new", 1)) == []
    assert pending("apns", "farnce") == 0


async def test_a_region_that_is_lost_twice_is_told_twice(routed: Routed) -> None:
    watch = Watch(routed.harness, Regions("iad", {"DE": "fra"}))
    gone = [word for word in ALL if (word.channel, word.region) != ("fcm", "fra")]
    assert await watch.after(20, *ALL) == []
    assert await watch.after(20, *gone) == [("fcm", "fra", 0)]
    assert await watch.after(20, *ALL) == []
    assert await watch.after(20, *gone) == [("fcm", "fra", 0)]


async def test_messages_for_a_region_of_an_older_map_are_seen_too(routed: Routed) -> None:
    harness = routed.harness
    watch = Watch(harness, Regions("iad", {}))
    envelope = SendEnvelope(new_id(), APPLICATION, "bulk", "fcm", "old", deliveries(1), False)
    await harness.bus.publish(send("bulk", "fcm", "old"), encode(envelope), msg_id=new_id())
    assert await watch.after(20, *ALL) == [("fcm", "old", 1)]
