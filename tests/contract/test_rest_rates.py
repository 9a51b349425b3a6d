"""GET /application/rates."""

import asyncio

import pytest

from libs.bus import Bus
from libs.clock import FakeClock, SystemClock
from libs.policies import PolicyBoard
from libs.rates import Report, answer
from libs.reference_time import reference_clock
from services.senders.contract import Accepted, TryLater
from services.senders.rate import Rates
from tests.contract.whole_platform import Tenant, Whole

pytest_plugins = ["tests.contract.whole_fixtures"]


async def knob(shop: Tenant, **rates: float) -> None:
    assert (await shop.call("PATCH", "/application", {"settings": {"rates": rates}})).status == 200


async def rates(shop: Tenant) -> list[dict[str, object]]:
    found: list[dict[str, object]] = (await shop.get("/application/rates")).data["rates"]
    return found


async def sender(bus: Bus, clock: FakeClock) -> Rates:
    """What one sender process knows of rates; it answers, and measures when the test says so."""
    reference = reference_clock(bus, SystemClock())
    await reference.synchronise()
    found = Rates(bus, PolicyBoard(bus, SystemClock()), "apns", clock, reference)
    await answer(bus, found.report)
    await bus.client.flush()  # who asks is connected on its own
    return found


async def send(process: Rates, clock: FakeClock, shop: Tenant, count: int) -> None:
    await process.learn(shop.application_id)
    for _ in range(count):
        process.heard(shop.application_id, Accepted("id"))
    clock.advance(1)
    process.measure()


def row(limit: float | None, effective: float | None, achieved: float, processes: int) -> dict[str, object]:
    told = {"limit": limit, "effective": effective, "achieved": achieved, "processes": processes}
    return {"channel": "apns", **told}


async def test_without_a_limit_and_without_messages_there_is_nothing_to_tell(whole: Whole) -> None:
    shop = await whole.tenant()
    assert await rates(shop) == []


async def test_a_limit_is_told_although_no_sender_lives(whole: Whole) -> None:
    shop = await whole.tenant()
    await knob(shop, apns=100, fcm=0.5)
    assert await rates(shop) == [row(100.0, 100.0, 0.0, 0), {**row(0.5, 0.5, 0.0, 0), "channel": "fcm"}]


async def test_what_is_achieved_stands_beside_the_limit_and_ends_with_the_messages(whole: Whole) -> None:
    shop, clock = await whole.tenant(), FakeClock()
    await knob(shop, apns=100)
    one, other = await sender(whole.bus, clock), await sender(whole.bus, clock)
    await send(one, clock, shop, 60)
    await send(other, clock, shop, 30)
    assert await rates(shop) == [row(100.0, 100.0, 90.0, 2)]
    for _ in range(5):
        clock.advance(1)
        one.measure()
        other.measure()
    assert await rates(shop) == [row(100.0, 100.0, 0.0, 2)]


async def test_a_changed_limit_is_told_at_once(whole: Whole) -> None:
    shop, clock = await whole.tenant(), FakeClock()
    await knob(shop, apns=100)
    process = await sender(whole.bus, clock)
    await send(process, clock, shop, 60)
    await knob(shop, apns=5)
    assert await rates(shop) == [row(5.0, 5.0, 60.0, 1)]


async def test_what_goes_out_without_a_limit_is_told_while_it_does(whole: Whole) -> None:
    shop, clock = await whole.tenant(), FakeClock()
    process = await sender(whole.bus, clock)
    await send(process, clock, shop, 1)
    clock.advance(1)
    process.measure()
    clock.advance(1)
    process.measure()
    assert await rates(shop) == [row(None, None, 0.333, 1)]
    for _ in range(5):
        clock.advance(1)
        process.measure()
    assert await rates(shop) == []


async def test_after_a_429_what_is_left_is_told(whole: Whole) -> None:
    shop, clock = await whole.tenant(), FakeClock()
    await knob(shop, apns=100)
    process = await sender(whole.bus, clock)
    await send(process, clock, shop, 60)
    process.heard(shop.application_id, TryLater("QUOTA_EXCEEDED", "throttled"))
    (found,) = await rates(shop)
    effective = found["effective"]
    assert isinstance(effective, float)
    assert 50.0 <= effective < 80.0
    process.heard(shop.application_id, TryLater("QUOTA_EXCEEDED", "throttled", 30.0))
    (found,) = await rates(shop)
    assert (found["limit"], found["effective"]) == (100.0, 0.0), "the provider wants a pause"


async def test_another_applications_rates_are_not_seen(whole: Whole) -> None:
    shop, stranger, clock = await whole.tenant(), await whole.tenant(), FakeClock()
    await knob(shop, apns=100)
    process = await sender(whole.bus, clock)
    await send(process, clock, shop, 60)
    assert await rates(stranger) == []
    await knob(stranger, apns=7)
    assert await rates(stranger) == [row(7.0, 7.0, 0.0, 1)]


@pytest.mark.parametrize("scope", ["send", "manage", "client"])
async def test_only_read_may(whole: Whole, scope: str) -> None:
    shop = await whole.tenant(scopes=[scope])
    assert (await shop.get("/application/rates")).status == 403


async def test_many_questions_of_one_tenant_delay_no_other_tenant(whole: Whole) -> None:
    """Each waits for all senders on purpose: they have places of their own, half of them at most are one tenant's."""
    shop, other = await whole.tenant(), await whole.tenant()
    await answer(whole.bus, lambda _: Report("apns", []))
    await whole.bus.client.flush()  # who asks is connected on its own
    assert (await other.get("/application")).status == (await shop.get("/application")).status == 200
    asking = [asyncio.create_task(shop.get("/application/rates")) for _ in range(100)]
    async with asyncio.timeout(10):
        while not any(each.done() for each in asking):  # refused are those for whom there is no place
            await asyncio.sleep(0.01)
    assert [(await other.get(path)).status for path in ("/application", "/application/rates")] == [200, 200]
    assert {(await each).status for each in asking} == {200, 503}
