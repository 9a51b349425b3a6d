"""Messages beyond an application's rate wait in `due`: how often each comes back before it is its turn."""

import heapq
from collections import Counter
from typing import Any

import pytest

from libs.envelope import Content, Delivery, Lane
from libs.ids import new_id
from services.senders.admission import Admission
from services.senders.contract import Accepted, Postponed
from services.senders.outstanding import Call, Outstanding
from services.senders.pace import LONGEST_LINE_MS, Pace
from services.senders.settings import Sender
from tests.unit.test_rate_pace import Process, Record

APPLICATION = "01990000-0000-7000-8000-00000000000a"


class OneRate:
    """`Rates` of one application."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace

    async def learn(self, _: str) -> None:
        """It is known."""

    def pace(self, _: str) -> Pace:
        return self._pace

    def explain(self, _: str) -> dict[str, float | None]:
        return {}


class Envelope:
    """`Held`, as far as it is asked."""

    sequence = 1


class Stage:
    """One lane of a sender, and a timekeeper that brings back what it postpones, on a clock that only they move."""

    def __init__(self, rate: float, lane: Lane) -> None:
        self.process = Process(Record(), "a", rate)
        own, clock = Sender("apns"), self.process.clock
        self._outstanding = Outstanding("apns", lane, own, clock, lambda _: None)
        rates: Any = OneRate(self.process.pace)
        self._admission = Admission(self._outstanding, rates, self.process.reference, lambda _: None)
        self._lane: Lane = lane
        self.holds: Counter[str] = Counter()
        self.waits_ms: list[float] = []
        self.sent: list[int] = []

    async def send(self, count: int) -> None:
        await self.process.reference.synchronise()
        due = [(0, message_id, 1) for message_id in sorted(new_id() for _ in range(count))]
        while due:
            at, message_id, attempt = heapq.heappop(due)
            now = self.process.reference.now_ms()
            self.process.clock.advance(max(0, at - now) / 1_000)
            held: Any = Envelope()
            entry = await self._admission.entry(APPLICATION, self._lane, held)
            found = await self._admission.admit(entry, _item(message_id, attempt), 1)
            if isinstance(found, Postponed):
                assert found.until_ms is not None
                self.holds[message_id] += 1
                self.waits_ms.append(found.until_ms - self.process.reference.now_ms())
                heapq.heappush(due, (found.until_ms, message_id, attempt + 1))
            else:
                self._over(found)

    def _over(self, call: Call) -> None:
        self.sent.append(self.process.reference.now_ms())
        self._outstanding.leave(call, Accepted(""))
        self._outstanding.reported(call)


def _item(message_id: str, attempt: int) -> Delivery:
    return Delivery(message_id, new_id(), attempt, "t", 1, 0, False, 2**52, Content())


@pytest.mark.parametrize("lane", ["critical", "normal", "bulk"])
@pytest.mark.parametrize(("rate", "count"), [(0.2, 40), (0.05, 20)])
async def test_who_is_postponed_comes_back_a_few_times_and_not_all_the_time(
    lane: Lane, rate: float, count: int
) -> None:
    stage = Stage(rate, lane)
    await stage.send(count)
    assert len(stage.sent) == count
    assert max(stage.holds.values()) <= 4, stage.holds.most_common(3)
    took = (stage.sent[-1] - stage.sent[0]) / 1_000
    assert took <= 1.1 * count / rate, "and the rate is reached"


async def test_at_the_lowest_rate_each_looks_again_every_ten_minutes() -> None:
    stage = Stage(0.01, "critical")
    await stage.send(20)
    assert len(stage.sent) == 20
    assert max(stage.waits_ms) <= LONGEST_LINE_MS
    assert max(stage.holds.values()) <= 12, "in half an hour"


async def test_nobody_waits_longer_than_ten_minutes_to_see_whether_the_rate_was_raised() -> None:
    process = Process(Record(), "a", 0.001)
    await process.reference.synchronise()
    now_ms = process.reference.now_ms()
    for _ in range(3):
        line = await process.pace.book(500)
        assert line is not None
        assert line.end_ms <= now_ms + LONGEST_LINE_MS + 1


async def test_critical_messages_have_a_line_of_their_own() -> None:
    process = Process(Record(), "a", 10.0)
    await process.reference.synchronise()
    now_ms = process.reference.now_ms()
    await process.pace.book(1_000)
    line = await process.pace.book(10, "critical")
    assert line is not None
    assert line.end_ms <= now_ms + 3_000
