"""Time, injected. The fake lives beside the real one so that both keep one shape."""

import time
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
