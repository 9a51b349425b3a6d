"""A region without a sender is served from another for as long as that lasts, and nothing is lost or sent twice."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from libs import telemetry
from libs.config import Nats
from libs.envelope import Delivery
from libs.presence import Alive
from libs.subjects import send
from services.senders import takeover
from tests.contract.regions_harness import AFTER, Field, field_on
from tests.contract.sender_harness import CHANNEL, SEND, deliveries
from tests.contract.streams_harness import drained, frozen, stored, tapped, until
from tests.servers import NatsServer

FRA = f"{CHANNEL}_fra"


@pytest.fixture
async def field(nats_settings: Nats) -> AsyncIterator[Field]:
    async with field_on(nats_settings) as found:
        yield found


async def patience(seconds: float = 2 * AFTER) -> None:
    """Long enough for a takeover that must not come."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    await until(lambda: loop.time() > end)


# taking over ----------------------------------------------------------------------------------------------------------


async def test_each_region_serves_itself_while_it_lives(field: Field) -> None:
    icn, fra = deliveries(30), deliveries(30)
    async with field.sender("icn"), field.sender("fra"):
        await patience()
        await field.give("icn", icn)
        await field.give("fra", fra)
        found = await field.sent([*icn, *fra])
    assert field.called_from("icn") == {item.message_id for item in icn}
    assert field.called_from("fra") == {item.message_id for item in fra}
    assert {(outcome.data["region"], outcome.data.get("sent_from")) for outcome in found.values()} == {
        ("icn", None),
        ("fra", None),
    }


async def test_a_region_that_nobody_serves_is_served_from_another_and_the_timeline_says_so(field: Field) -> None:
    """As a region that the dispatcher's map misspells."""
    items = deliveries(25)
    async with field.sender("icn"):
        await field.give("farnce", items)
        found = await field.sent(items)
        await drained(field.bus, SEND)
    assert {(outcome.data["region"], outcome.data["sent_from"]) for outcome in found.values()} == {("farnce", "icn")}
    field.each_was_called_once(items)


async def test_a_region_that_falls_silent_while_messages_flow_is_taken_over(field: Field) -> None:
    before, after = deliveries(20), deliveries(20)
    async with field.sender("icn"):
        async with field.sender("fra"):
            await field.give("fra", before)
            await field.sent(before)
        await field.give("fra", after)
        found = await field.sent(after)
    assert {outcome.data["sent_from"] for outcome in found.values()} == {"icn"}
    field.each_was_called_once([*before, *after])


async def test_no_region_is_taken_over_before_its_time(field: Field) -> None:
    items = deliveries(5)
    async with field.sender("icn", takeover_after=3600.0):
        await field.give("fra", items)
        await patience()
        assert await stored(field.bus, SEND) == 1
    assert not field.calls()


@pytest.mark.parametrize(("standby_for", "served"), [("none", set()), ("gru,fra", {"fra"}), ("*", {"fra", "nrt"})])
async def test_a_sender_stands_by_for_the_regions_it_is_told_to(
    field: Field, standby_for: str, served: set[str]
) -> None:
    by_region = {region: deliveries(5) for region in ("fra", "nrt")}
    async with field.sender("icn", standby_for=standby_for):
        for region, items in by_region.items():
            await field.give(region, items)
        await field.sent([item for region in served for item in by_region[region]])
        await patience()
    assert field.calls().keys() == {item.message_id for region in served for item in by_region[region]}


async def test_what_a_dead_sender_held_comes_when_its_time_is_up_and_is_asked_about_first(field: Field) -> None:
    items = deliveries(10)
    subject = send("normal", CHANNEL, "fra")
    async with tapped(field.bus, SEND, subject, FRA) as dead, field.sender("icn"):
        await field.give("fra", items)
        held = await dead.raw()
        known, unknown = items[:4], items[4:]
        field.settled = {item.message_id for item in known}
        found = await field.sent(unknown)
        await drained(field.bus, SEND)
        assert held.subject == subject
    assert field.calls().keys() == {item.message_id for item in unknown}
    assert {outcome.data["sent_from"] for outcome in found.values()} == {"icn"}
    lost = {outcome.message_id for outcome in field.outcomes if outcome.reason == "sender_lost"}
    assert lost == {item.message_id for item in unknown}, "each says that its first holder was lost"


async def test_several_that_stand_by_share_the_work(field: Field) -> None:
    items = deliveries(200)
    async with field.sender("icn"), field.sender("nrt"):
        await field.give("fra", items, size=5)
        await field.sent(items)
        await drained(field.bus, SEND)
    assert field.called_from("icn")
    assert field.called_from("nrt")
    field.each_was_called_once(items)


async def test_so_many_regions_at_a_time_and_no_more(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(takeover, "MOST", 3)
    by_region = {f"r{number}": deliveries(2) for number in range(4)}
    async with field.sender("icn"):
        for region, items in by_region.items():
            await field.give(region, items)
        await field.sent([*by_region["r0"], *by_region["r1"]])
        await patience()
        assert await stored(field.bus, SEND) == 2


# handing back ---------------------------------------------------------------------------------------------------------


async def test_a_region_that_lives_again_is_handed_back(field: Field) -> None:
    lost, back = deliveries(20), deliveries(200)
    async with field.sender("icn"):
        await field.give("fra", lost)
        await field.sent(lost)
        async with field.sender("fra"):
            await until(lambda: handed_back("fra"))
            await field.give("fra", back, size=5)
            found = await field.sent(back)
            assert {outcome.data.get("sent_from") for outcome in found.values()} == {None}
    field.each_was_called_once([*lost, *back])


def handed_back(region: str) -> bool:
    value: float = telemetry.gauge("region_taken_over", channel=CHANNEL, region=region)._value.get()
    return value == 0


async def test_a_region_is_handed_back_while_its_messages_flow(field: Field) -> None:
    items = deliveries(600)
    async with field.sender("icn"):
        giving = asyncio.create_task(trickle(field, "fra", items))
        await until(lambda: bool(field.called_from("icn")))
        async with field.sender("fra"):
            await giving
            await field.sent(items)
            await until(lambda: handed_back("fra"))
            await drained(field.bus, SEND)
    assert field.called_from("fra")
    field.each_was_called_once(items)


async def test_a_region_is_lost_again_after_it_was_handed_back(field: Field) -> None:
    first, second, third = deliveries(10), deliveries(10), deliveries(10)
    async with field.sender("icn"):
        await field.give("fra", first)
        await field.sent(first)
        async with field.sender("fra"):
            await until(lambda: handed_back("fra"))
            await field.give("fra", second)
            await field.sent(second)
        await field.give("fra", third)
        found = await field.sent(third)
    assert {outcome.data["sent_from"] for outcome in found.values()} == {"icn"}
    field.each_was_called_once([*first, *second, *third])


async def test_a_sender_that_drains_is_not_stepped_in_for_before_it_has_left(field: Field) -> None:
    items = deliveries(5)
    draining = Alive(CHANNEL, "fra", "elsewhere", 1, draining=True)
    async with field.sender("icn"):
        async with field.somebody_says(draining):
            await field.give("fra", items)
            await patience()
            assert not field.calls()
        await field.sent(items)


async def test_a_sender_that_drains_is_none_to_hand_back_to(field: Field) -> None:
    first, second = deliveries(5), deliveries(5)
    async with field.sender("icn"):
        await field.give("fra", first)
        await field.sent(first)
        async with field.somebody_says(Alive(CHANNEL, "fra", "elsewhere", 1, draining=True)):
            await patience()
            await field.give("fra", second)
            await field.sent(second)


# scaling --------------------------------------------------------------------------------------------------------------


async def trickle(field: Field, region: str, items: list[Delivery], size: int = 5) -> None:
    for start in range(0, len(items), size):
        await field.give(region, items[start : start + size])
        await asyncio.sleep(0.01)


async def test_from_one_to_three_and_back_while_messages_flow(field: Field) -> None:
    items = deliveries(1_500)
    async with field.sender("fra"):
        giving = asyncio.create_task(trickle(field, "fra", items))
        for _ in range(2):
            async with contextlib.AsyncExitStack() as more:
                for _ in range(2):
                    await more.enter_async_context(field.sender("fra"))
                others = [provider for _, provider in field.providers[-2:]]
                await until(lambda: giving.done() or all(len(provider.calls) > 50 for provider in others))  # noqa: B023
        await giving
        await field.sent(items)
        await drained(field.bus, SEND)
    assert sum(1 for _, provider in field.providers if provider.calls) >= 3
    field.each_was_called_once(items)


async def test_a_sender_ends_in_time_while_nats_does_not_answer(own_nats: NatsServer) -> None:
    """It looks for deserted regions all the time, and does not wait for that answer."""
    settings = Nats(url=own_nats.url, max_stream_bytes=64 * 1024**2)
    loop = asyncio.get_running_loop()
    async with field_on(settings) as field, contextlib.AsyncExitStack() as life:
        await life.enter_async_context(field.sender("icn"))
        await patience()
        with frozen(own_nats):
            await patience(0.5)
            began = loop.time()
            await life.aclose()
            took = loop.time() - began
    assert took < 6.0


async def test_one_of_two_ends_under_load_without_a_repeat_and_in_time(field: Field) -> None:
    """Calls of 50 ms are in flight when it is told to end: they are finished, reported and acknowledged."""
    items = deliveries(800)
    loop = asyncio.get_running_loop()
    async with field.sender("fra"):
        async with field.sender("fra") as (runtime, provider):
            for _, each in field.providers:
                each.pause = 0.05
            giving = asyncio.create_task(trickle(field, "fra", items))
            await until(lambda: provider.under_way >= 5)
            runtime.stopping.set()
            began = loop.time()
        took, called = loop.time() - began, set(provider.calls)
        assert provider.under_way == 0
        await giving
        await field.sent(items)
        await drained(field.bus, SEND)
    assert called
    assert took < 6.0
    field.each_was_called_once(items)
