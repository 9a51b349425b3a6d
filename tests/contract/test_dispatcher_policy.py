"""Quiet hours, ads and frequency caps at the dispatcher, on a real NATS, at any hour: what goes and what waits."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from libs.config import Nats
from libs.envelope import OutcomeEnvelope, SendEnvelope
from libs.policy import FrequencyCap, Policy, QuietHours
from libs.rpc import Capped, SendToReserve, Stop
from libs.subjects import outcome, send, stream_of
from services.dispatcher.__main__ import start
from services.dispatcher.settings import Settings
from tests.contract.dispatcher_harness import DISPATCH, NOW_MS, DispatcherHarness, harness_on, settings
from tests.contract.streams_harness import APPLICATION, impatient, stored, tapped, until
from tests.in_process import running

HOUR_MS = 3_600_000
AFTERNOON_MS = NOW_MS
"""17:00 in Seoul."""
EVENING_MS = NOW_MS + 4 * HOUR_MS
MORNING_MS = NOW_MS + 15 * HOUR_MS
"""21:00, and 08:00 of the next day."""
QUIET = QuietHours("21:00", "07:00")
ALL_DAY = QuietHours("00:00", "23:59")
TWO_A_DAY = FrequencyCap(2, "day")


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    with impatient():
        yield


@pytest.fixture
def own(nats_settings: Nats, key_ring_file: Path) -> Settings:
    return settings(nats_settings, key_ring_file)


@pytest.fixture
async def idle(nats_settings: Nats, key_ring_file: Path) -> AsyncIterator[DispatcherHarness]:
    """It is evening in Korea. What is set before the dispatcher starts is known to it from the start."""
    async with harness_on(nats_settings, key_ring_file) as harness:
        harness.now_ms = EVENING_MS
        yield harness


# hours ----------------------------------------------------------------------------------------------------------------


async def test_quiet_hours_hold_until_they_end_and_say_why(idle: DispatcherHarness, own: Settings) -> None:
    idle.policy = Policy(quiet_hours=QUIET)
    there = idle.accepted(idle.subscriptions.add())
    elsewhere = idle.accepted(idle.subscriptions.add(timezone="Europe/Berlin"))
    async with running("dispatcher", start, own):
        await idle.give(there, elsewhere)
        held = (await idle.refused(1))[there.message_id]
        assert [item.message_id for item in (await idle.sent()).items] == [elsewhere.message_id]
    until_ms = EVENING_MS + 10 * HOUR_MS
    assert (held.kind, held.reason, held.key) == ("held", "quiet_hours", f"quiet_hours:{until_ms}")
    assert (held.hold_until_ms, held.retry_class) == (until_ms, None)
    assert held.data == {
        "timezone": "Asia/Seoul",
        "timezone_from": "country",
        "start": "21:00",
        "end": "07:00",
        "until_ms": until_ms,
        "rule": "application",
    }


async def test_their_own_quiet_hours_may_drop(idle: DispatcherHarness, own: Settings) -> None:
    mine = QuietHours("20:00", "22:00", action="drop")
    item = idle.accepted(idle.subscriptions.add(quiet_hours=mine))
    async with running("dispatcher", start, own):
        await idle.give(item)
        dropped = (await idle.refused(1))[item.message_id]
    assert (dropped.kind, dropped.reason, dropped.hold_until_ms) == ("failed", "quiet_hours", None)
    assert (dropped.data["rule"], dropped.data["until_ms"]) == ("subscription", EVENING_MS + HOUR_MS)


async def test_the_critical_lane_passes_quiet_hours_but_not_the_law(idle: DispatcherHarness, own: Settings) -> None:
    idle.policy = Policy(quiet_hours=ALL_DAY, frequency_caps=(TWO_A_DAY,))
    alarm, ad = (idle.accepted(idle.subscriptions.add(), category=category) for category in ("info", "ad"))
    sends, outcomes = stream_of("SEND", "critical"), stream_of("OUTCOME", "critical")
    async with (
        tapped(idle.bus, sends, send("critical", "apns", "local")) as sent,
        tapped(idle.bus, outcomes, outcome("critical", "dispatch", "local")) as kept,
        running("dispatcher", start, own),
    ):
        await idle.give(alarm, ad, lane="critical")
        (held,) = (await kept.next(OutcomeEnvelope)).items
        (delivery,) = (await sent.next(SendEnvelope)).items
    assert delivery.message_id == alarm.message_id
    assert (held.message_id, held.reason, held.hold_until_ms) == (ad.message_id, "ad_night", MORNING_MS)
    assert not idle.reserved


async def test_at_night_ads_go_to_those_who_agreed_and_carry_the_mark(idle: DispatcherHarness, own: Settings) -> None:
    agreed = idle.accepted(idle.subscriptions.add(night_consent=True), category="ad")
    info = idle.accepted(idle.subscriptions.add())
    other = idle.accepted(idle.subscriptions.add(), category="ad")
    async with running("dispatcher", start, own):
        await idle.give(agreed, info, other)
        held = (await idle.refused(1))[other.message_id]
        titles = {item.message_id: item.content.title for item in (await idle.sent()).items}
    assert (held.kind, held.reason, held.data["rule"]) == ("held", "ad_night", "law")
    assert titles == {agreed.message_id: "(광고) 안녕", info.message_id: "안녕"}


async def test_by_day_ads_go_marked(idle: DispatcherHarness, own: Settings) -> None:
    idle.now_ms = AFTERNOON_MS
    async with running("dispatcher", start, own):
        await idle.give(idle.accepted(idle.subscriptions.add("AndroidPush"), category="ad"))
        (delivery,) = (await idle.sent("fcm")).items
    assert delivery.content.title == "(광고) 안녕"
    assert delivery.closing is not None
    assert (delivery.closing.hold, delivery.closing.data["rule"]) == ("ad_night", "law")
    assert 0 < delivery.closing.at_ms - AFTERNOON_MS < 24 * 3_600_000


async def test_what_no_hour_concerns_goes_without_one(idle: DispatcherHarness, own: Settings) -> None:
    idle.now_ms = AFTERNOON_MS
    agreed = idle.accepted(idle.subscriptions.add(night_consent=True), category="ad")
    async with running("dispatcher", start, own):
        await idle.give(agreed, idle.accepted(idle.subscriptions.add()))
        assert [item.closing for item in (await idle.sent()).items] == [None, None]


async def test_the_first_question_answered_no_is_the_reason(idle: DispatcherHarness, own: Settings) -> None:
    idle.policy = Policy(quiet_hours=QuietHours("15:00", "23:00"), frequency_caps=(TWO_A_DAY,))
    idle.stops.append(Stop(APPLICATION, "apns", "key:k1", "", NOW_MS))
    add, accepted = idle.subscriptions.add, idle.accepted
    expected = {
        accepted(add(), category="ad", deadline_ms=EVENING_MS): "expired",
        accepted(add(status=-2), category="ad"): "subscription_disabled",
        accepted(add(ad_consent=False), category="ad"): "ad_consent_missing",
        accepted(add(), category="ad"): "emergency_stop",
        accepted(add("AndroidPush"), category="ad"): "ad_night",
        accepted(add("AndroidPush")): "quiet_hours",
    }
    async with running("dispatcher", start, own):
        await idle.give(*expected)
        found = await idle.refused(len(expected))
    assert {i: fact.reason for i, fact in found.items()} == {item.message_id: why for item, why in expected.items()}
    assert not idle.reserved


async def test_no_hour_is_guessed_while_nobody_can_tell_the_time(idle: DispatcherHarness, own: Settings) -> None:
    idle.now_ms = None
    async with running("dispatcher", start, own):
        await idle.give(item := idle.accepted(idle.subscriptions.add(), category="ad"))
        await until(lambda: len(idle.subscriptions.asked) >= 2)
        assert await stored(idle.bus, DISPATCH) == 1
        idle.now_ms = EVENING_MS
        assert (await idle.refused(1))[item.message_id].reason == "ad_night"


async def test_while_the_rules_are_unknown_an_envelope_waits(idle: DispatcherHarness, own: Settings) -> None:
    idle.policies_away = True
    async with running("dispatcher", start, own):
        await idle.give(item := idle.accepted(idle.subscriptions.add()))
        await until(lambda: len(idle.subscriptions.asked) >= 2)
        assert await stored(idle.bus, DISPATCH) == 1
        idle.policies_away = False
        assert (await idle.sent()).items[0].message_id == item.message_id


# caps -----------------------------------------------------------------------------------------------------------------


async def test_one_question_counts_all_that_would_go_now(idle: DispatcherHarness, own: Settings) -> None:
    idle.policy = Policy(frequency_caps=(TWO_A_DAY,))
    subscription = idle.subscriptions.add(user_id="u")
    first, second = idle.accepted(subscription), idle.accepted(subscription)
    stranger = idle.accepted(idle.subscriptions.add("AndroidPush"))
    gone, ad = idle.accepted("nobody"), idle.accepted(subscription, category="ad")
    idle.full[second.message_id] = Capped(second.message_id, TWO_A_DAY, 2, MORNING_MS)
    async with running("dispatcher", start, own):
        await idle.give(first, gone, second, ad, stranger)
        kept = await idle.refused(3)
        sent = [(await idle.sent(channel)).items for channel in ("apns", "fcm")]
    assert [[item.message_id for item in items] for items in sent] == [[first.message_id], [stranger.message_id]]
    (request,) = idle.reserved
    assert (request.application_id, request.caps) == (APPLICATION, [TWO_A_DAY])
    assert request.sends == [
        SendToReserve(first.message_id, "u", "info"),
        SendToReserve(second.message_id, "u", "info"),
        SendToReserve(stranger.message_id, stranger.subscription_id, "info"),
    ]
    held = kept[second.message_id]
    assert (held.kind, held.reason, held.hold_until_ms) == ("held", "frequency_cap", MORNING_MS)
    assert held.data == {"limit": 2, "per": "day", "category": None, "count": 2, "until_ms": MORNING_MS}


async def test_a_cap_may_drop_and_where_all_are_capped_nothing_goes(idle: DispatcherHarness, own: Settings) -> None:
    drop = FrequencyCap(1, "hour", action="drop")
    idle.policy = Policy(frequency_caps=(drop,))
    item = idle.accepted(idle.subscriptions.add())
    idle.full[item.message_id] = Capped(item.message_id, drop, 1, MORNING_MS)
    async with running("dispatcher", start, own):
        await idle.give(item)
        dropped = (await idle.refused(1))[item.message_id]
        assert (dropped.kind, dropped.reason, dropped.data["limit"]) == ("failed", "frequency_cap", 1)
    assert await stored(idle.bus, stream_of("SEND", "normal")) == 0


async def test_without_caps_nobody_is_asked(idle: DispatcherHarness, own: Settings) -> None:
    async with running("dispatcher", start, own):
        await idle.give(idle.accepted(idle.subscriptions.add()))
        await idle.sent()
    assert not idle.reserved


async def test_an_envelope_that_comes_again_asks_for_the_same_places(idle: DispatcherHarness, own: Settings) -> None:
    idle.policy = Policy(frequency_caps=(TWO_A_DAY,))
    item = idle.accepted(idle.subscriptions.add())
    async with running("dispatcher", start, own):
        for _ in range(2):
            await idle.give(item, handoff_id="h")
        await until(lambda: len(idle.reserved) == 2)
        assert (await idle.sent()).items[0].message_id == item.message_id
    assert idle.reserved[0].sends == idle.reserved[1].sends
    assert await stored(idle.bus, stream_of("SEND", "normal")) == 0


async def test_while_nobody_counts_an_envelope_waits(idle: DispatcherHarness, own: Settings) -> None:
    idle.policy = Policy(frequency_caps=(TWO_A_DAY,))
    idle.lifecycle_away = True
    async with running("dispatcher", start, own):
        await idle.give(item := idle.accepted(idle.subscriptions.add()))
        await until(lambda: len(idle.reserved) >= 2)
        assert await stored(idle.bus, DISPATCH) == 1
        idle.lifecycle_away = False
        assert (await idle.sent()).items[0].message_id == item.message_id
