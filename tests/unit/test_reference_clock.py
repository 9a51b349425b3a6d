"""Deadlines are judged by Postgres' clock, and by no other (R9)."""

from libs.clock import FakeClock, ReferenceClock


async def test_nothing_is_late_before_the_clock_was_checked() -> None:
    clock = FakeClock(2_000.0)

    async def ask() -> int:
        return 1_000_000

    reference = ReferenceClock(clock, ask)
    assert reference.judging_ms() == 0
    await reference.synchronise()
    assert reference.judging_ms() == reference.now_ms() == 1_000_000


class Slow:
    """A reference `ahead` milliseconds ahead, told after `there` and known here after `back` more, all in ms."""

    def __init__(self, clock: FakeClock, ahead: float) -> None:
        self.clock, self.ahead = clock, ahead
        self.there = self.back = 0.5

    async def ask(self) -> int:
        self.clock.advance(self.there / 1000)
        told = self.clock.now * 1000 + self.ahead
        self.clock.advance(self.back / 1000)
        return int(told)

    def error_of(self, reference: ReferenceClock) -> float:
        return abs(reference.now_ms() - self.clock.now * 1000 - self.ahead)


async def test_a_slow_answer_does_not_spoil_what_a_quick_one_told() -> None:
    slow = Slow(FakeClock(), ahead=300_000)
    reference = ReferenceClock(slow.clock, slow.ask)
    await reference.synchronise()
    slow.back = 2_000.0
    await reference.synchronise()
    slow.back, slow.there = 0.5, 2_000.0
    await reference.synchronise()
    assert slow.error_of(reference) < 3


async def test_a_quick_answer_mends_what_a_slow_one_told() -> None:
    slow = Slow(FakeClock(), ahead=-5_000)
    slow.back = 2_000.0
    reference = ReferenceClock(slow.clock, slow.ask)
    await reference.synchronise()
    assert slow.error_of(reference) > 500
    slow.back = 0.5
    await reference.synchronise()
    assert slow.error_of(reference) < 3


async def test_a_clock_that_is_set_is_followed() -> None:
    slow = Slow(FakeClock(), ahead=0)
    reference = ReferenceClock(slow.clock, slow.ask)
    await reference.synchronise()
    slow.ahead = 300_000
    await reference.synchronise()
    assert slow.error_of(reference) < 3
