"""Leases of rate: tiers that change, clocks that differ, applications that are many."""

import asyncio
import math
from typing import Any

import pytest

from libs import rpc
from libs.clock import FakeClock
from libs.errors import RateLimitExceeded, ResourceNotFound, ServiceUnavailable
from services.ingest import limits
from services.ingest.auth import Caller
from services.ingest.limits import RateLimits


class Counter:
    """The application service: minutes by a clock of its own."""

    def __init__(self, clock: FakeClock, ahead: float = 0.0) -> None:
        self._clock = clock
        self._ahead = ahead
        self.granted: dict[tuple[str, int], int] = {}
        self.questions: list[rpc.LeaseRequests] = []
        self.slow: asyncio.Event | None = None

    async def call(self, service: str, verb: str, question: rpc.LeaseRequests, *_: Any) -> rpc.Lease:
        assert (service, verb) == ("application", "lease")
        self.questions.append(question)
        now = self._clock.time() + self._ahead
        if self.slow is not None:
            await self.slow.wait()
        ends = (math.floor(now / 60) + 1) * 60
        before = self.granted.get((question.application_id, ends), 0)
        granted = min(question.want, max(0, question.limit - before))
        self.granted[question.application_id, ends] = before + granted
        return rpc.Lease(granted, max(0, question.limit - before - granted), ends * 1000, int(now * 1000))


def caller(application_id: str = "a", tier: rpc.Tier = "default") -> Caller:
    return Caller(application_id=application_id, actor="key:k", scopes=frozenset({"send"}), tier=tier)


def rates(counter: Any, clock: FakeClock) -> RateLimits:
    return RateLimits(counter, clock)


async def admitted(limits: RateLimits, who: Caller, number: int) -> int:
    passed = 0
    for _ in range(number):
        try:
            await limits.admit(who, {})
        except RateLimitExceeded:
            continue
        passed += 1
    return passed


@pytest.mark.parametrize("ahead", [-300.0, 0.0, 17.3, 300.0])
async def test_the_minute_is_postgres_whatever_our_clock_says(ahead: float) -> None:
    clock = FakeClock()
    counter = Counter(clock, ahead)
    gate = rates(counter, clock)
    assert await admitted(gate, caller(), 400) == 300
    theirs = clock.time() + ahead
    with pytest.raises(RateLimitExceeded) as refused:
        await gate.admit(caller(), {})
    assert refused.value.details["retry_after"] == math.ceil((math.floor(theirs / 60) + 1) * 60 - theirs)
    clock.advance(refused.value.details["retry_after"])
    assert await admitted(gate, caller(), 400) == 300


async def test_a_better_tier_helps_at_once() -> None:
    clock = FakeClock()
    counter = Counter(clock)
    gate = rates(counter, clock)
    assert await admitted(gate, caller(), 310) == 300
    assert await admitted(gate, caller(tier="premium"), 1000) == 700
    told: dict[str, str] = {}
    with pytest.raises(RateLimitExceeded):
        await gate.admit(caller(tier="premium"), told)
    assert told[limits.LIMIT] == "1000"


async def test_neighbours_do_not_share_a_minute() -> None:
    clock = FakeClock()
    gate = rates(Counter(clock), clock)
    assert await admitted(gate, caller("a"), 310) == 300
    assert await admitted(gate, caller("b"), 310) == 300


async def test_applications_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_WINDOWS", 3)
    clock = FakeClock()
    counter = Counter(clock)
    gate = rates(counter, clock)
    for name in "abcda":
        await gate.admit(caller(name), {})
    assert [question.application_id for question in counter.questions] == list("abcda")
    await gate.admit(caller("d"), {})
    assert len(counter.questions) == 5


async def test_whoever_leaves_does_not_take_the_lease_along() -> None:
    clock = FakeClock()
    counter = Counter(clock)
    counter.slow = asyncio.Event()
    gate = rates(counter, clock)
    leaves, stays = (asyncio.create_task(gate.admit(caller(), {})) for _ in range(2))
    await asyncio.sleep(0)
    leaves.cancel()
    counter.slow.set()
    await stays
    assert len(counter.questions) == 1
    assert counter.questions[0].want == 6


async def test_a_lease_that_came_too_late_is_none() -> None:
    clock = FakeClock()
    counter = Counter(clock)
    counter.slow = asyncio.Event()
    gate = rates(counter, clock)
    asked = asyncio.create_task(gate.admit(caller(), {}))
    while not counter.questions:
        await asyncio.sleep(0)
    clock.advance(61)
    counter.slow.set()
    await asked
    assert len(counter.questions) == 2


async def test_a_counter_that_grants_nothing_useful_is_given_up() -> None:
    class Past:
        async def call(self, *_: Any) -> rpc.Lease:
            return rpc.Lease(6, 100, 1_000, 2_000)

    with pytest.raises(ServiceUnavailable):
        await rates(Past(), FakeClock()).admit(caller(), {})


async def test_an_error_of_the_counter_is_our_trouble_and_not_the_callers() -> None:
    class Gone:
        async def call(self, *_: Any) -> rpc.Lease:
            raise ResourceNotFound(id="a")

    with pytest.raises(ServiceUnavailable):
        await rates(Gone(), FakeClock()).admit(caller(), {})
