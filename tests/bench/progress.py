"""How many messages came to an end, when: lifecycle's counters read five times a second."""

import asyncio
import contextlib
import time
from bisect import bisect_left
from types import TracebackType
from typing import Self

from tests.bench.system import System

INTERVAL = 0.2
STALLED = 90.0
"""Seconds without a single outcome after which a measurement is given up."""


class Stalled(Exception):
    """Outcomes stopped coming before all were there."""


class Progress:
    """`async with Progress(system)`: a series of (monotonic seconds, outcomes committed since the block began)."""

    def __init__(self, system: System) -> None:
        self._system = system
        self.base = 0
        """The counters' value at the start."""
        self._task: asyncio.Task[None] | None = None
        self.times: list[float] = []
        self.counts: list[int] = []

    async def __aenter__(self) -> Self:
        self.base = await self._system.ended()
        self.times, self.counts = [time.monotonic()], [0]
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    @property
    def count(self) -> int:
        return self.counts[-1]

    async def reached(self, target: int) -> None:
        """Return when `target` outcomes are committed. Raises `Stalled`."""
        seen, since = self.count, time.monotonic()
        while self.count < target:
            await asyncio.sleep(INTERVAL / 2)
            if self.count != seen:
                seen, since = self.count, time.monotonic()
            elif time.monotonic() - since > STALLED:
                raise Stalled(f"{seen} of {target} outcomes, and none for {STALLED:.0f} s")

    def moment_of(self, count: int) -> float:
        """When the count was reached, interpolated between two looks."""
        at = max(1, bisect_left(self.counts, count))
        before, after = self.counts[at - 1], self.counts[at]
        share = 1.0 if after == before else (count - before) / (after - before)
        return self.times[at - 1] + share * (self.times[at] - self.times[at - 1])

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            with contextlib.suppress(ConnectionError, OSError):
                count = await self._system.ended() - self.base
                self.times.append(time.monotonic())
                self.counts.append(max(count, self.count))
