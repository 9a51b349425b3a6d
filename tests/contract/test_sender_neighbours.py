"""Applications whose provider does not answer, beside others in the same lane: nobody waits for them (R11)."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from libs.clock import SystemClock
from libs.config import Nats
from libs.envelope import Delivery, Outcome
from libs.ids import new_id
from libs.rpc import Credential
from services.senders.contract import Accepted, Result, TryLater
from services.senders.outstanding import FIRST, PROBES
from services.senders.settings import Sender as SenderSettings
from tests.contract.sender_harness import (
    CHANNEL,
    DURABLE,
    SECRET,
    SEND,
    SenderHarness,
    deliveries,
    delivery,
    facts,
    sending,
)
from tests.contract.streams_harness import APPLICATION, consumer_of, drained, impatient, until

HANG_SECONDS = 4.0
SLOW = SenderSettings(CHANNEL, slots=8, concurrency=40, application_concurrency=20, slow_after=0.3)


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    with impatient():
        yield


async def hangs(_: Delivery) -> Result:
    await asyncio.sleep(HANG_SECONDS)
    return TryLater("timeout", "network", unknown=True)


async def healthy(item: Delivery) -> Result:
    await asyncio.sleep(0.05)
    return Accepted(item.message_id)


def with_tenants(harness: SenderHarness, count: int) -> list[str]:
    found = [new_id() for _ in range(count)]
    harness.peers.credentials |= {each: Credential(1, SECRET) for each in found}
    return found


class Outcomes:
    """Gathered from the beginning on: the first and the only one of each message."""

    def __init__(self, harness: SenderHarness) -> None:
        self._harness = harness
        self.found: dict[str, Outcome] = {}

    async def of(self, items: list[Delivery]) -> list[Outcome]:
        while not self.found.keys() >= {item.message_id for item in items}:
            for each in await self._harness.reported(1):
                assert each.message_id not in self.found, "said once"
                self.found[each.message_id] = each
        return [self.found[item.message_id] for item in items]


async def flow(harness: SenderHarness, seconds: float) -> list[float]:
    """Seconds from publishing to the provider, of single messages of the application that is well."""
    given: dict[str, float] = {}
    until_time = time.monotonic() + seconds
    while time.monotonic() < until_time:
        item = delivery()
        given[item.message_id] = time.monotonic()
        await harness.give(item)
        await asyncio.sleep(0.02)
    await until(lambda: given.keys() <= harness.sender.called_at.keys())
    return sorted(harness.sender.called_at[i] - at for i, at in given.items())


def p95(waits: list[float]) -> float:
    return waits[int(len(waits) * 0.95) - 1]


@pytest.mark.parametrize("tenants", [1, 4])
async def test_an_application_that_is_well_does_not_feel_those_whose_provider_hangs(
    nats_settings: Nats, tenants: int
) -> None:
    async with sending(nats_settings, SLOW, clock=SystemClock()) as harness:
        harness.sender.providers[APPLICATION] = healthy
        sick = with_tenants(harness, tenants)
        harness.sender.providers |= dict.fromkeys(sick, hangs)
        alone = await flow(harness, 2.0)
        singles, bulky = [], []
        for each in sick:
            for _ in range(30):
                singles.append(delivery())
                await harness.give(singles[-1], application_id=each)
            bulky += (items := deliveries(300))
            await harness.give(*items, application_id=each)
        beside = await flow(harness, 5.0)
        found = Outcomes(harness)
        said = await found.of(singles + bulky)
        await drained(harness.bus, SEND)
    # Far less than `slow_after`, which it would be without; the ratio is `make bench`'s to measure, on a quiet machine.
    assert p95(beside) <= 1.2 * p95(alone) + 0.1, (p95(alone), p95(beside))
    assert beside[-1] < 1.0, "nobody waited for a call to time out"
    assert harness.sender.times_called() == {1}
    assert {(one.kind, one.reason) for one in said} == {("errored", "timeout"), ("held", "provider_slow")}
    called = set(harness.sender.calls)
    assert {one.message_id in called for one in said if one.kind == "held"} == {False}
    assert all(one.message_id in called for one in said if one.kind == "errored")


async def test_a_message_that_waits_for_a_provider_says_why_and_until_when(nats_settings: Nats) -> None:
    async with sending(nats_settings, SLOW, clock=SystemClock()) as harness:
        harness.sender.providers[APPLICATION] = hangs
        items = deliveries(30)
        began_ms = harness.reference.now_ms()
        await harness.give(*items)
        said = await Outcomes(harness).of(items)
        await drained(harness.bus, SEND)
    held = [one for one in said if one.kind == "held"]
    tried = len(items) - len(held)
    assert tried in (FIRST, FIRST + 1), "one has been answered before"
    for one in held:
        assert one.retry_class is None
        assert one.hold_until_ms == one.data["until_ms"]
        assert 4_000 <= one.data["until_ms"] - began_ms <= 7_500
        assert (one.data["outstanding"], one.data["limit"]) == (tried, PROBES)
        assert one.data["oldest_ms"] >= 300
    assert len({one.hold_until_ms for one in held}) > 5, "they do not come back all at once"


async def test_an_envelope_with_calls_under_way_leaves_its_slot_to_the_next(nats_settings: Nats) -> None:
    own = SenderSettings(CHANNEL, slots=1, parked=3)
    async with sending(nats_settings, own) as harness:
        harness.sender.gate = asyncio.Event()
        items = deliveries(6)
        for item in items:
            await harness.give(item)
        await until(lambda: harness.sender.under_way == 4)
        assert (await consumer_of(harness.bus, SEND, DURABLE)).num_ack_pending == 4, "three are parked"
        harness.sender.gate.set()
        found = await harness.reported(6)
        await drained(harness.bus, SEND)
    assert facts(found) == {item.message_id: ("sent", None) for item in items}
    assert harness.sender.times_called() == {1}


async def test_parked_envelopes_are_finished_before_the_process_leaves(nats_settings: Nats) -> None:
    own = SenderSettings(CHANNEL, slots=1, parked=3)
    async with sending(nats_settings, own) as harness:
        harness.sender.gate = asyncio.Event()
        items = deliveries(3)
        for item in items:
            await harness.give(item)
        await until(lambda: harness.sender.under_way == 3)
        stopping = asyncio.create_task(harness.stop())
        await asyncio.sleep(0)
        assert not stopping.done()
        harness.sender.gate.set()
        await stopping
        assert facts(await harness.reported(3)) == {item.message_id: ("sent", None) for item in items}
        await drained(harness.bus, SEND)


async def test_an_envelope_is_held_for_as_long_as_its_slowest_call_takes(nats_settings: Nats) -> None:
    """Twice the time after which a silent holder's envelope goes to another: beaten for, it is delivered once."""
    async with sending(nats_settings, SLOW, clock=SystemClock()) as harness:
        harness.sender.providers[APPLICATION] = hangs
        item = delivery()
        await harness.give(item)
        (said,) = await Outcomes(harness).of([item])
        info = await consumer_of(harness.bus, SEND, DURABLE)
        await drained(harness.bus, SEND)
    assert (said.kind, said.reason, info.num_redelivered) == ("errored", "timeout", 0)
    assert harness.sender.calls == [item.message_id]


async def test_an_application_comes_back_with_its_first_answers(nats_settings: Nats) -> None:
    async with sending(nats_settings, SLOW, clock=SystemClock()) as harness:
        harness.sender.providers[APPLICATION] = hangs
        outcomes = Outcomes(harness)
        first = deliveries(30)
        await harness.give(*first)
        await outcomes.of(first)
        harness.sender.providers[APPLICATION] = healthy
        probes = deliveries(1)
        await harness.give(*probes)
        assert [one.kind for one in await outcomes.of(probes)] == ["sent"]
        items = deliveries(100)
        await harness.give(*items)
        assert {one.kind for one in await outcomes.of(items)} == {"sent"}
        await drained(harness.bus, SEND)
    assert harness.sender.times_called() == {1}
