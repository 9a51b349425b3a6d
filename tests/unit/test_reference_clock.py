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
