"""An application's rate over two sender processes on a real NATS: shared, even, slower after a 429; nothing lost."""

import asyncio
import contextlib
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator

import msgspec
import pytest

from libs.config import Nats
from libs.envelope import Delivery, Outcome, OutcomeEnvelope, decode
from libs.policy import Policy
from libs.rates import Rate, asked
from services.senders.contract import Accepted, Result, TryLater
from services.senders.rate import BUCKET
from services.senders.settings import Sender as SenderSettings
from tests.contract.sender_harness import (
    CHANNEL,
    SEND,
    SenderHarness,
    deliveries,
    delivery,
    sending,
)
from tests.contract.streams_harness import APPLICATION, cancelled, connected, drained, impatient, until

RATE = 200.0
OTHER = "01990000-0000-7000-8000-00000000000b"


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    with impatient():
        yield


class Platform:
    """Two sender processes, and lifecycle as far as it brings back what they postpone."""

    def __init__(self, first: SenderHarness, second: SenderHarness) -> None:
        self.processes = [first, second]
        self.peers = first.peers
        self.items: dict[str, Delivery] = {}
        self.said: dict[str, list[Outcome]] = defaultdict(list)
        self._due: list[tuple[int, Delivery]] = []

    async def give(self, *items: Delivery) -> None:
        self.items |= {item.message_id: item for item in items}
        await self.processes[0].give(*items)

    async def run(self) -> None:
        """As the timekeeper: five times a second, what is due comes back as a new attempt."""
        listening = asyncio.create_task(self._listen())
        try:
            while True:
                await asyncio.sleep(0.2)
                now_ms = self.processes[0].reference.now_ms()
                back = [item for at, item in self._due if at <= now_ms]
                self._due = [each for each in self._due if each[0] > now_ms]
                for start in range(0, len(back), 500):
                    await self.processes[0].give(*back[start : start + 500])
        finally:
            await cancelled(listening)

    async def _listen(self) -> None:
        while True:
            message = await self.processes[0].outcomes.raw(60)
            await message.ack()
            for one in decode(message.data, OutcomeEnvelope).items:
                self.said[one.message_id].append(one)
                if one.kind == "held":
                    assert one.hold_until_ms is not None
                    again = msgspec.structs.replace(self.items[one.message_id], attempt=one.attempt + 1)
                    self._due.append((one.hold_until_ms, again))

    def calls(self) -> list[float]:
        return sorted(at for each in self.processes for at in each.sender.called_at.values())

    async def all_said(self) -> None:
        """Until lifecycle would know of each what became of it; that it was held meanwhile is not the end."""
        await until(lambda: len(self.kinds()) == len(self.items) and all(self.kinds().values()))

    def kinds(self) -> dict[str, list[str]]:
        return {i: [one.kind for one in said if one.kind != "held"] for i, said in self.said.items()}


@contextlib.asynccontextmanager
async def platform(settings: Nats, knob: float | None = RATE) -> AsyncIterator[Platform]:
    own = SenderSettings(CHANNEL)
    async with sending(settings, own) as first, connected(settings, "second") as bus:
        second = SenderHarness(bus, own)
        await second.start()
        found = Platform(first, second)
        first.sender.called_at.clear()
        if knob is not None:
            first.peers.policies[APPLICATION] = Policy(rates={"apns": knob})
            for each in (first, second):
                each.rates._policies._known.clear()
        running = asyncio.create_task(found.run())
        try:
            yield found
            assert not running.done(), running.exception()
        finally:
            await cancelled(running)
            await second.stop()


def most_within(calls: list[float], seconds: float) -> int:
    return max(bisect_left(calls, at + seconds) - i for i, at in enumerate(calls))


async def test_two_processes_share_one_rate_and_reach_it(nats_settings: Nats) -> None:
    async with platform(nats_settings) as both:
        for _ in range(6):
            await both.give(*deliveries(250))
        for _ in range(40):
            await both.give(delivery())
        await until(lambda: len(both.calls()) == 1_540, seconds=30)
        await drained(both.processes[0].bus, SEND)
        await both.all_said()
    calls = both.calls()
    took = calls[-1] - calls[0]
    assert most_within(calls, 5.0) <= RATE * 5 * 1.1  # 1.05, and what a busy machine bunches
    assert most_within(calls, 0.5) <= RATE * 0.5 + RATE * 0.2, "no bursts"
    steady = [at for at in calls if calls[0] + 0.5 <= at < calls[0] + 5.5]
    assert len(steady) >= RATE * 5 * 0.8, (len(steady), took)
    assert all(each.sender.calls for each in both.processes), "both took part"
    assert set(map(tuple, both.kinds().values())) == {("sent",)}, "each is sent once"
    assert max(len(said) for said in both.said.values()) <= 4, "who is postponed comes back in time"


async def test_what_is_achieved_is_the_sum_of_both_processes_and_nothing_when_nothing_is_sent(
    nats_settings: Nats,
) -> None:
    seen: list[Rate] = []

    async def told(is_such: Callable[[Rate], bool]) -> bool:
        (found,) = await asked(both.processes[0].bus, APPLICATION)
        seen.append(found)
        return found.processes == 2 and is_such(found)

    async with platform(nats_settings) as both:
        await until(lambda: told(lambda found: found.achieved <= 1))
        for _ in range(6):
            await both.give(*deliveries(250))
        await until(lambda: told(lambda found: abs(found.achieved - RATE) < RATE * 0.1))
        parts = [each.rates.report(APPLICATION).parts[0].achieved for each in both.processes]
        assert all(part > 0 for part in parts), "both took part"
        assert await asked(both.processes[0].bus, OTHER) == [], "another application has nothing to do with it"
        assert [rate.application_id for rate in await asked(both.processes[1].bus)] == [APPLICATION]
        await both.all_said()
        await until(lambda: told(lambda found: found.achieved == 0))
    assert {(rate.channel, rate.limit, rate.effective) for rate in seen} == {(CHANNEL, RATE, RATE)}
    assert max(rate.achieved for rate in seen) < RATE * 1.2


async def test_what_waits_for_its_rate_says_which_and_until_when(nats_settings: Nats) -> None:
    async with platform(nats_settings, knob=2.0) as both:
        await both.give(*deliveries(40))
        await until(lambda: len(both.said) == 40)
        held = [said[0] for said in both.said.values() if said[0].kind == "held"]
        assert len(both.calls()) <= 6
    assert len(held) >= 34
    assert {(one.reason, one.retry_class) for one in held} == {("rate_limit", None)}
    assert {one.data["rate"] for one in held} == {2.0}
    assert all(one.data["until_ms"] == one.hold_until_ms for one in held)
    times = sorted(one.data["until_ms"] for one in held)
    assert times[-1] - times[0] >= (len(held) - 1) * 490, "they come back at the rate"


async def test_a_slow_rate_delays_no_other_application(nats_settings: Nats) -> None:
    async with platform(nats_settings, knob=1.0) as both:
        both.peers.credentials[OTHER] = both.peers.credentials[APPLICATION]
        for _ in range(100):
            await both.give(delivery())
        began = time.monotonic()
        item = delivery()
        both.items[item.message_id] = item
        await both.processes[0].give(item, application_id=OTHER)
        await until(lambda: item.message_id in both.said)
        assert time.monotonic() - began < 1.0
        assert [one.kind for one in both.said[item.message_id]] == ["sent"]


async def test_a_429_halves_the_rate_of_all_processes(nats_settings: Nats) -> None:
    refused: list[str] = []

    async def strict(item: Delivery) -> Result:
        if not refused:
            refused.append(item.message_id)
            return TryLater("QUOTA_EXCEEDED", "throttled")
        return Accepted(item.message_id)

    async with platform(nats_settings) as both:
        for each in both.processes:
            each.sender.providers[APPLICATION] = strict
        for _ in range(6):
            await both.give(*deliveries(200))
        await until(lambda: refused != [])
        began = time.monotonic() + 1  # by then everybody knows
        await until(lambda: time.monotonic() > began + 2)
        within = [at for at in both.calls() if began <= at < began + 2]
        assert RATE * 2 * 0.4 < len(within) < RATE * 2 * 0.75, "half, and a twentieth a second more"


async def test_a_retry_after_is_kept_by_all_processes(nats_settings: Nats) -> None:
    refused_at: list[float] = []

    async def strict(item: Delivery) -> Result:
        if not refused_at:
            refused_at.append(time.monotonic())
            return TryLater("QUOTA_EXCEEDED", "throttled", 2.5)
        return Accepted(item.message_id)

    async with platform(nats_settings, knob=None) as both:
        for each in both.processes:
            each.sender.providers[APPLICATION] = strict
        for _ in range(10):
            await both.give(*deliveries(5))
        await until(lambda: refused_at != [])
        for _ in range(40):
            await both.give(*deliveries(5))
            await asyncio.sleep(0.02)
        await until(lambda: len(both.calls()) == 250)
        calls = both.calls()
    assert not [at for at in calls if refused_at[0] + 1.0 < at < refused_at[0] + 2.4]
    assert sum(at > refused_at[0] + 2.4 for at in calls) > 0


async def test_one_tokens_429_slows_nobody_else(nats_settings: Nats) -> None:
    async with platform(nats_settings, knob=None) as both:
        item = delivery()
        both.processes[0].sender.answers[item.message_id] = both.processes[1].sender.answers[item.message_id] = (
            TryLater("TooManyRequests", "throttled", data={"scope": "token"})
        )
        await both.give(item)
        await until(lambda: item.message_id in both.said)
        assert all(each.rates.pace(APPLICATION) is None for each in both.processes)


async def test_a_schedule_that_is_lost_with_its_server_begins_anew(nats_settings: Nats) -> None:
    async with platform(nats_settings) as both:
        for _ in range(3):
            await both.give(*deliveries(250))
        await until(lambda: len(both.calls()) > 200)
        await both.processes[0].bus.js.delete_key_value(BUCKET)
        await until(lambda: len(both.calls()) == 750, seconds=30)
        calls = both.calls()
        # What was promised under the old schedule comes on top, once.
        assert most_within(calls, 2.0) <= RATE * 2 * 1.5
        await both.all_said()
    assert set(map(tuple, both.kinds().values())) == {("sent",)}
