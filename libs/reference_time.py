"""Keeps a `ReferenceClock` in step with Postgres through lifecycle."""

import asyncio

from libs.bus import Bus
from libs.clock import Clock, ReferenceClock
from libs.errors import SignalError
from libs.rpc import AskTime, Now

_EVERY_SECONDS = 30.0
_FIRST_TRIES_SECONDS = 0.5


def reference_clock(bus: Bus, clock: Clock) -> ReferenceClock:
    async def ask() -> int:
        return (await bus.call("lifecycle", "now", AskTime(), Now)).unix_ms

    return ReferenceClock(clock, ask)


async def follow(clock: ReferenceClock) -> None:
    """For ever. Until the first answer the own clock serves: a wrong expiry is rarer than a late start."""
    pause = _FIRST_TRIES_SECONDS
    while True:
        try:
            await clock.synchronise()
            pause = _EVERY_SECONDS
        except SignalError:
            pause = min(pause * 2, _EVERY_SECONDS)
        await asyncio.sleep(pause)
