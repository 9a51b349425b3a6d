"""Time, injected. The fake lives beside the real one so that both keep one shape."""

import time
from collections.abc import Awaitable, Callable
from typing import Protocol


class Clock(Protocol):
    """Wall time for timestamps, monotonic time for durations; both in seconds."""

    def time(self) -> float: ...

    def monotonic(self) -> float: ...


class SystemClock:
    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class FakeClock:
    """Stands still until told to move."""

    def __init__(self, now: float = 1_767_225_600.0) -> None:
        self.now = now

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class ReferenceClock:
    """Postgres' clock, followed from a process without a database: ttl and expiry mean the same everywhere (R9)."""

    def __init__(self, clock: Clock, ask: Callable[[], Awaitable[int]]) -> None:
        self._clock = clock
        self._ask = ask
        self._offset_ms = 0.0
        self._synchronised = False

    def now_ms(self) -> int:
        return int(self._clock.time() * 1000 + self._offset_ms)

    def judging_ms(self) -> int:
        """The time by which deadlines are judged; 0 until the first answer: nothing is called late by a clock that
        nobody has checked."""
        return self.now_ms() if self._synchronised else 0

    async def synchronise(self) -> None:
        """Asks once. What was believed stays while the answer allows it: a slow one, which may be old by nearly the
        whole round trip, does not spoil what a quick one told. Raises what asking raises."""
        asked_at = self._clock.monotonic()
        reference = await self._ask()
        trip_ms = (self._clock.monotonic() - asked_at) * 1000
        lowest = reference - self._clock.time() * 1000
        highest = lowest + trip_ms + 1  # a millisecond is told when it begins
        believed = self._offset_ms if self._synchronised else (lowest + highest) / 2
        self._offset_ms = min(max(believed, lowest), highest)
        self._synchronised = True
