"""Moments handed out in one process: by lane, in time, and what is done while the shared record is away."""

import asyncio
from itertools import pairwise

import pytest

from libs.clock import FakeClock, ReferenceClock
from libs.errors import ServiceUnavailable
from libs.kv import Bucket
from services.senders.pace import MOST_WAITING, Allowed, Pace, Waiter
from services.senders.schedule import PATIENCE_MS, interval_ms

APPLICATION = "01990000-0000-7000-8000-00000000000a"


class Record(Bucket):
    """One record in a dict, that two processes can share, and that can be away."""

    def __init__(self) -> None:
        self.stored: tuple[bytes, int] | None = None
        self.away = False
        self.writes = 0

    async def get(self, key: str) -> tuple[bytes, int] | None:
        if self.away:
            raise ServiceUnavailable(service="nats")
        return self.stored

    async def put(self, key: str, value: bytes, revision: int) -> int | None:
        if self.away:
            raise ServiceUnavailable(service="nats")
        if revision != (self.stored[1] if self.stored else 0):
            return None
        self.stored = value, revision + 1
        self.writes += 1
        return revision + 1


class Process:
    """With a clock that moves only as far as somebody sleeps."""

    def __init__(self, record: Record, member: str, rate: float = 10.0) -> None:
        self.clock = FakeClock()
        self.allowed = Allowed(rate)

        async def ask() -> int:
            return int(self.clock.time() * 1000)

        async def sleep(seconds: float) -> None:
            self.clock.advance(seconds)
            await asyncio.sleep(0)

        self.reference = ReferenceClock(self.clock, ask)
        self.pace = Pace(record, "apns.a", member, self.reference, lambda _: self.allowed, sleep)

    def admit(self, lane: str = "normal", wanted: int = 1, *, is_new: bool = True) -> float | Waiter | None:
        give_up_ms = self.reference.now_ms() + PATIENCE_MS
        return self.pace.admit(lane, wanted, give_up_ms, is_new)  # type: ignore[arg-type]  # one of the lanes

    async def moment(self, lane: str = "normal", wanted: int = 1, *, is_new: bool = True) -> float | None:
        found = self.admit(lane, wanted, is_new=is_new)
        return await found.moment if isinstance(found, Waiter) else found


@pytest.fixture
def record() -> Record:
    return Record()


@pytest.fixture
async def process(record: Record) -> Process:
    found = Process(record, "a")
    await found.reference.synchronise()
    return found


async def test_moments_follow_each_other_at_the_rate(process: Process) -> None:
    moments = [await process.moment(wanted=20 - i) for i in range(20)]
    gaps = [after - before for before, after in pairwise(moments) if after and before]
    assert len(gaps) == 19
    assert all(gap == pytest.approx(interval_ms(10), abs=2) for gap in gaps)


async def test_a_slice_is_taken_at_once(process: Process, record: Record) -> None:
    process.allowed = Allowed(1_000.0)
    for left in range(500, 0, -1):
        assert await process.moment(wanted=left) is not None
    assert record.writes <= 10, "not a write a message"


async def test_critical_messages_go_before_those_that_came_earlier(process: Process) -> None:
    order: list[str] = []

    async def wait(lane: str) -> None:
        assert await process.moment(lane) is not None
        order.append(lane)

    await asyncio.gather(*(wait(lane) for lane in ("bulk", "normal", "bulk", "critical")))
    assert order == ["critical", "normal", "bulk", "bulk"]


async def test_only_so_many_envelopes_of_a_lane_wait(process: Process) -> None:
    process.allowed = Allowed(1_000.0)
    waiting = [process.admit("bulk") for _ in range(MOST_WAITING)]
    assert process.admit("bulk") is None
    others = [process.admit("critical")]
    assert all([await each.moment for each in waiting + others if isinstance(each, Waiter)])


async def test_who_would_wait_too_long_is_told_at_once(process: Process) -> None:
    process.allowed = Allowed(0.2)
    assert await process.moment() is not None
    assert await process.moment() is None


async def test_a_pause_lets_nothing_through_and_what_was_taken_before_is_gone(process: Process) -> None:
    process.allowed = Allowed(100.0)
    assert await process.moment(wanted=10) is not None
    pause_ends = process.reference.now_ms() + 1_000
    process.allowed = Allowed(100.0, pause_ends)
    moment = await process.moment(wanted=10)
    assert moment is not None
    assert moment >= pause_ends
    process.allowed = Allowed(100.0, process.reference.now_ms() + 5_000)
    assert await process.moment() is None


async def test_new_messages_do_not_pass_those_that_were_postponed(process: Process) -> None:
    assert await process.moment() is not None
    await process.pace.book(100)
    waiting = [process.admit(is_new=False) for _ in range(3)]
    assert all(isinstance(each, Waiter) for each in waiting)
    assert await waiting[0].moment is not None  # type: ignore[union-attr]  # see above
    assert process.admit(is_new=True) is None
    assert isinstance(process.admit("critical", is_new=True), Waiter)


async def test_who_is_postponed_comes_back_when_the_limit_has_ended(process: Process) -> None:
    now_ms = process.reference.now_ms()
    process.allowed = Allowed(1.0, ends_ms=now_ms + 8_000)
    line = await process.pace.book(100)
    assert line is not None
    assert (line.count, line.next_ms, line.end_ms) == (100, now_ms, now_ms + 10_000)
    later = await process.pace.book(10)
    assert later is not None
    assert (later.next_ms, later.end_ms) == (now_ms + 8_000, now_ms + 10_000)


async def test_without_a_rate_or_a_pause_nobody_waits(process: Process, record: Record) -> None:
    process.allowed = Allowed(None)
    assert process.admit() == process.reference.now_ms()
    assert record.writes == 0


async def test_while_the_record_is_away_each_process_keeps_to_its_part(process: Process, record: Record) -> None:
    other = Process(record, "b")
    other.clock = process.clock
    await other.reference.synchronise()
    assert await other.moment() is not None
    process.clock.advance(1.0)
    assert await process.moment() is not None
    process.clock.advance(1.0)
    record.away = True
    moments = [await process.moment(wanted=10) for _ in range(5)]
    gaps = [after - before for before, after in pairwise(moments) if after and before]
    assert gaps == pytest.approx([interval_ms(5)] * 4, abs=2)
    record.away = False
    process.clock.advance(3.0)
    moments = [await process.moment(wanted=10) for _ in range(3)]
    assert moments[2] - moments[1] == pytest.approx(interval_ms(10), abs=2)  # type: ignore[operator]  # they came


async def test_a_rate_that_this_process_has_never_shared_is_not_guessed(process: Process, record: Record) -> None:
    record.away = True
    assert await process.moment() is None
    assert await process.pace.book(10) is None


async def test_a_clock_that_was_not_checked_shares_nothing(record: Record) -> None:
    unchecked = Process(record, "a")
    assert await unchecked.moment() is None
    assert record.stored is None


async def test_a_record_of_another_make_is_as_good_as_away(process: Process, record: Record) -> None:
    record.stored = b"\xc1", 7
    assert await process.moment() is None
    assert record.stored == (b"\xc1", 7)
