"""Calls under way: who does not answer loses its part of the lane, and gets it back with its first answers."""

import asyncio

import pytest

from libs.clock import FakeClock
from services.senders.contract import Accepted, Rejected, TryLater
from services.senders.outstanding import FIRST, PROBES, Call, Outstanding, Tenant
from services.senders.settings import Sender

OK = Accepted("1")
TIMEOUT = TryLater("timeout", "network", unknown=True)


async def turn(tenant: Tenant) -> bool:
    found = tenant.admit()
    return await tenant.turn() if found is None else found


class Lane:
    """With a clock that stands still, and no timer: `after` is what the timer does."""

    def __init__(self, *, concurrency: int = 50, application: int = 40, outcome_batch: int = 10, most: int = 2_000):
        self.clock = FakeClock()
        self.under_way = 0
        own = Sender(
            "apns",
            parked=4,
            concurrency=concurrency,
            application_concurrency=application,
            outcome_batch=outcome_batch,
            slow_after=1.0,
            max_outstanding=most,
        )
        self.outstanding = Outstanding("test", "normal", own, self.clock, self._count)

    def _count(self, calls: int) -> None:
        self.under_way += calls

    def after(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.outstanding.sweep()

    async def call(self, application_id: str) -> Call | None:
        """None: refused. Raises TimeoutError where it waits."""
        async with asyncio.timeout(0.01):
            tenant = self.outstanding.tenant(application_id)
            return await self.outstanding.enter(tenant) if await turn(tenant) else None

    async def calls(self, application_id: str, count: int) -> list[Call]:
        found = [await self.call(application_id) for _ in range(count)]
        return [call for call in found if call is not None]

    def end(self, call: Call, result: object = OK) -> None:
        self.outstanding.leave(call, result)
        self.outstanding.reported(call)

    async def grown(self, application_id: str) -> None:
        """Answers have brought it to its full part."""
        for _ in range(40):
            for call in await self.calls(application_id, 2):
                self.end(call)


async def test_an_application_begins_with_few_calls_and_each_answer_allows_one_more() -> None:
    lane = Lane()
    first = await lane.calls("a", FIRST)
    with pytest.raises(TimeoutError):
        await lane.call("a")
    for call in first:
        lane.end(call)
    assert len(await lane.calls("a", 2 * FIRST)) == 2 * FIRST
    with pytest.raises(TimeoutError):
        await lane.call("a")


async def test_an_application_has_no_more_than_its_part() -> None:
    lane = Lane()
    await lane.grown("a")
    assert len(await lane.calls("a", 40)) == 40
    with pytest.raises(TimeoutError):
        await lane.call("a")
    assert len(await lane.calls("b", FIRST)) == FIRST


async def test_who_waits_has_the_place_of_the_next_call_that_ends() -> None:
    lane = Lane()
    calls = await lane.calls("a", FIRST)
    tenant = lane.outstanding.tenant("a")
    waiting = [asyncio.create_task(turn(tenant)) for _ in range(3)]
    await asyncio.sleep(0)
    lane.end(calls[0], TIMEOUT)
    assert await waiting[0] is True
    assert not waiting[1].done()
    lane.end(calls[1], OK)
    assert [await waiting[1], await waiting[2]] == [True, True], "the answer allows one more"


async def test_calls_that_get_slow_give_their_places_in_the_lane_to_others() -> None:
    lane = Lane(concurrency=50, application=50, outcome_batch=0)
    await lane.grown("a")
    hanging = await lane.calls("a", 50)
    with pytest.raises(TimeoutError):
        await lane.call("c")
    lane.after(1.0)
    assert lane.under_way == 0
    assert len(await lane.calls("b", FIRST)) == FIRST
    for call in hanging:
        lane.end(call, TIMEOUT)
    assert lane.under_way == FIRST, "a place that was given back is not given back again"


async def test_who_does_not_answer_is_refused_at_once_and_so_are_those_who_wait() -> None:
    lane = Lane()
    await lane.calls("a", FIRST)
    tenant = lane.outstanding.tenant("a")
    waiting = asyncio.create_task(turn(tenant))
    await asyncio.sleep(0)
    lane.after(1.0)
    assert await waiting is False
    assert await lane.call("a") is None
    assert (tenant.outstanding, tenant.limit, tenant.oldest()) == (FIRST, PROBES, 1.0)


async def test_after_its_calls_timed_out_only_probes_are_called_until_one_is_answered() -> None:
    lane = Lane()
    hanging = await lane.calls("a", FIRST)
    lane.after(1.0)
    for call in hanging:
        lane.end(call, TIMEOUT)
    probes = await lane.calls("a", FIRST)
    assert len(probes) == PROBES, "and nobody waits for them, although they are young"
    assert lane.outstanding.tenant("a").stuck_for() == 1.0
    lane.end(probes[0], Rejected("BadDeviceToken"))
    assert lane.outstanding.tenant("a").stuck_for() == 0
    assert len(await lane.calls("a", 2)) == 2


async def test_a_provider_that_is_slow_but_answers_keeps_its_part() -> None:
    lane = Lane()
    for _ in range(10):
        calls = await lane.calls("a", FIRST)
        lane.after(1.2)
        for call in calls:
            lane.end(call)
    assert len(await lane.calls("a", 40)) == 40


async def test_a_few_slow_calls_among_many_answers_stop_nobody() -> None:
    lane = Lane()
    await lane.grown("a")
    (slow,) = await lane.calls("a", 1)
    lane.after(1.0)
    assert len(await lane.calls("a", 38)) == 38
    assert not lane.outstanding.tenant("a").is_stuck
    lane.end(slow, TIMEOUT)


async def test_where_calls_take_long_only_so_many_envelopes_wait() -> None:
    lane = Lane()
    await lane.calls("a", FIRST)
    lane.clock.advance(0.5)
    tenant = lane.outstanding.tenant("a")
    waiting = [asyncio.create_task(turn(tenant)) for _ in range(2)]
    await asyncio.sleep(0)
    assert await lane.call("a") is None
    for task in waiting:
        task.cancel()


async def test_what_a_crash_could_repeat_is_bounded() -> None:
    lane = Lane(concurrency=3, application=3, outcome_batch=2)
    for call in await lane.calls("a", 3):
        lane.outstanding.leave(call, OK)
    unreported = await lane.calls("a", 2)
    with pytest.raises(TimeoutError):
        await lane.call("a")
    lane.outstanding.leave(unreported[0], OK)
    with pytest.raises(TimeoutError):
        await lane.call("b")
    lane.outstanding.reported(unreported[0])
    await lane.calls("b", 1)


async def test_calls_without_an_answer_are_bounded_too() -> None:
    lane = Lane(concurrency=4, application=4, outcome_batch=0, most=3)
    await lane.calls("a", 4)
    lane.after(1.0)
    assert lane.under_way == 1
    await lane.calls("b", 3)
    with pytest.raises(TimeoutError):
        await lane.call("b")


async def test_a_call_that_was_not_made_tells_nothing() -> None:
    lane = Lane()
    for call in await lane.calls("a", FIRST):
        lane.outstanding.withdraw(call)
    assert lane.outstanding.tenant("a").limit == FIRST
    assert lane.under_way == 0
