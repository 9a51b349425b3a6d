"""What one process says of its rates: measured each second, 0 when nothing is sent, shown, and forgotten."""

import asyncio
from itertools import count

import pytest
from nats.aio.client import Client
from prometheus_client import REGISTRY

from libs.bus import Bus
from libs.clock import FakeClock, ReferenceClock
from libs.config import Nats
from libs.policies import PolicyBoard
from libs.policy import Policy
from libs.rates import BUSIEST, Part
from services.senders.contract import Accepted, Rejected, TryLater
from services.senders.rate import IDLE_SECONDS, Rates

_numbers = count(1)


class Policies(PolicyBoard):
    """At hand."""

    def __init__(self, bus: Bus, clock: FakeClock) -> None:
        super().__init__(bus, clock)
        self.set: dict[str, Policy] = {}

    async def of(self, application_id: str) -> Policy:
        return self.set.get(application_id, Policy())


class Process:
    """A sender without NATS, with a clock that moves when told."""

    def __init__(self) -> None:
        self.clock = FakeClock()

        async def ask() -> int:
            return int(self.clock.time() * 1000)

        bus = Bus(Client(), Nats())
        self.policies = Policies(bus, self.clock)
        self.rates = Rates(bus, self.policies, "apns", self.clock, ReferenceClock(self.clock, ask))

    async def send(self, application_id: str, answers: int = 1, knob: float | None = None) -> None:
        self.policies.set[application_id] = Policy() if knob is None else Policy(rates={"apns": knob})
        await self.rates.learn(application_id)
        for _ in range(answers):
            self.rates.heard(application_id, Accepted("id"))
        await asyncio.sleep(0)  # what is asked of NATS meanwhile is over

    def pass_time(self, seconds: int = 1) -> None:
        for _ in range(seconds):
            self.clock.advance(1)
            self.rates.measure()

    def part(self, application_id: str) -> Part | None:
        found = self.rates.report(application_id).parts
        assert len(found) <= 1
        return found[0] if found else None


@pytest.fixture
def process() -> Process:
    return Process()


@pytest.fixture
def shop() -> str:
    """An application that nobody measured before: metrics are the whole process'."""
    return f"shop-{next(_numbers)}"


def shown(application_id: str) -> dict[str, float | None]:
    labels = {"channel": "apns", "application": application_id}
    names = ("limit", "effective", "achieved")
    return {name: REGISTRY.get_sample_value(f"automata_rate_{name}", labels) for name in names}


FORGOTTEN = {"limit": None, "effective": None, "achieved": None}


async def test_a_rate_is_shown_with_what_it_allows_and_what_is_achieved(process: Process, shop: str) -> None:
    await process.send(shop, 80, knob=100.0)
    assert shown(shop) == FORGOTTEN
    process.pass_time()
    assert shown(shop) == {"limit": 100.0, "effective": 100.0, "achieved": 80.0}
    assert process.part(shop) == Part(shop, 80.0)


async def test_it_is_nothing_five_seconds_after_the_last_message(process: Process, shop: str) -> None:
    for _ in range(6):
        await process.send(shop, 100, knob=100.0)
        process.pass_time()
    seen = []
    for _ in range(5):
        process.pass_time()
        seen.append(shown(shop)["achieved"])
    assert seen == [80.0, 60.0, 40.0, 20.0, 0.0]
    assert process.part(shop) == Part(shop, 0.0), "its rate is still told"
    process.pass_time(20)
    assert shown(shop) == {"limit": 100.0, "effective": 100.0, "achieved": 0.0}


async def test_a_rate_below_one_a_second_is_told_as_it_is(process: Process, shop: str) -> None:
    for second in range(20):
        await process.send(shop, second % 2, knob=0.5)
        process.pass_time()
    assert 0.4 <= (shown(shop)["achieved"] or 0) <= 0.6


async def test_who_sends_again_after_a_pause_is_measured_anew(process: Process, shop: str) -> None:
    await process.send(shop, 50, knob=100.0)
    process.pass_time(60)
    await process.send(shop, 50)
    process.pass_time()
    part = process.part(shop)
    assert part is not None
    assert part.achieved == 10.0, "the mean of five seconds, four of them without"


async def test_what_the_provider_refuses_for_good_was_sent_too_and_what_it_throttles_was_not(
    process: Process, shop: str
) -> None:
    await process.send(shop, 0)
    process.rates.heard(shop, Rejected("Unregistered"))
    process.rates.heard(shop, TryLater("QUOTA_EXCEEDED", "throttled", data={"scope": "token"}))
    process.pass_time()
    assert process.part(shop) == Part(shop, 1.0)


async def test_after_a_429_half_is_left_and_grows_back(process: Process, shop: str) -> None:
    await process.send(shop, 100, knob=100.0)
    process.rates.heard(shop, TryLater("QUOTA_EXCEEDED", "throttled"))
    process.pass_time()
    assert shown(shop) == {"limit": 100.0, "effective": 55.0, "achieved": 100.0}
    assert process.part(shop) == Part(shop, 100.0, left=55.0)
    process.pass_time(9)
    assert process.part(shop) == Part(shop, 0.0)
    await asyncio.sleep(0)


async def test_while_the_provider_wants_a_pause_nothing_is_left(process: Process, shop: str) -> None:
    await process.send(shop, 100, knob=None)
    process.rates.heard(shop, TryLater("QUOTA_EXCEEDED", "throttled", 30.0))
    process.pass_time(29)
    assert process.part(shop) == Part(shop, 0.0, left=0.0), "told although nothing goes out"
    process.pass_time(2)
    assert process.part(shop) is None
    assert shown(shop) == FORGOTTEN, "without a knob it has a rate only while it is throttled"
    await asyncio.sleep(0)


async def test_who_has_sent_nothing_for_long_is_forgotten(process: Process, shop: str) -> None:
    await process.send(shop, knob=100.0)
    process.pass_time(int(IDLE_SECONDS) - 1)
    assert shown(shop)["limit"] == 100.0
    process.pass_time()
    assert shown(shop) == FORGOTTEN
    assert process.part(shop) is None
    await process.send(shop, 7, knob=100.0)
    process.pass_time()
    assert shown(shop)["limit"] == 100.0


async def test_a_rate_that_is_taken_away_is_forgotten_and_what_is_sent_is_told(process: Process, shop: str) -> None:
    await process.send(shop, 10, knob=100.0)
    process.pass_time()
    await process.send(shop, 10, knob=None)
    process.pass_time()
    assert shown(shop) == FORGOTTEN
    assert process.part(shop) == Part(shop, 10.0)
    process.pass_time(5)
    assert process.part(shop) is None


async def test_only_those_that_send_most_are_told_and_shown(process: Process, shop: str) -> None:
    for number in range(1, BUSIEST + 11):
        await process.send(f"{shop}-{number}", number, knob=100.0)
    process.pass_time()
    told = [(part.application_id, part.achieved) for part in process.rates.report(None).parts]
    assert told == [(f"{shop}-{number}", float(number)) for number in range(BUSIEST + 10, 10, -1)]
    assert {number for number in range(1, BUSIEST + 11) if shown(f"{shop}-{number}") != FORGOTTEN} == set(range(11, 31))
    for _ in range(5):
        await process.send(f"{shop}-1", 100, knob=100.0)
        process.pass_time()
    assert shown(f"{shop}-1")["achieved"] == 100.0
    assert shown(f"{shop}-11") == FORGOTTEN, "one more has none any longer"


async def test_of_one_application_nothing_else_is_told(process: Process, shop: str) -> None:
    await process.send(shop, 10, knob=100.0)
    await process.send(f"{shop}-stranger", 10, knob=100.0)
    process.pass_time()
    assert process.part(shop) == Part(shop, 10.0)
    assert process.part("nobody") is None
