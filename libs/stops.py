"""Emergency stops as the pipeline sees them: asked for at most once a second, kept while nobody answers.

Stopped messages are given back as `held`; lifecycle keeps them in `due` until the stop is released.
"""

import asyncio
from typing import Any

import msgspec

from libs import telemetry
from libs.bus import Bus
from libs.clock import Clock
from libs.errors import ServiceUnavailable, SignalError
from libs.rpc import ListStops, Stop, Stops
from libs.waits import Hold

REASON: Hold = "emergency_stop"
"""Of the `held` events; and, with the channel behind a colon, of the rows in `due`."""
EVERY_CHANNEL = "*"
FRESH_SECONDS = 0.8
"""With the time of one question: a stop is seen everywhere within two seconds."""
_ASK_SECONDS = 1.0
_log = telemetry.logger("stops")


class StopBoard:
    """What is stopped now, of all applications: stops are few, so that one question tells them all."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._stops: dict[tuple[str, str], Stop] | None = None
        self._ask_at = 0.0
        self._answered = False
        self._asking: asyncio.Task[None] | None = None

    async def refresh(self) -> None:
        """Brings what is older than a second up to date. Raises `ServiceUnavailable` while nothing is known at all.

        While nobody answers, what was known last serves on, and the next question is not waited for.
        """
        if self._clock.monotonic() >= self._ask_at:
            if self._asking is None:
                self._asking = asyncio.create_task(self._ask())
                self._asking.add_done_callback(self._asked)
            if self._stops is None or self._answered:
                await asyncio.shield(self._asking)
        if self._stops is None:
            raise ServiceUnavailable(service="application", retry_after=1)

    def of(self, application_id: str, channel: str) -> Stop | None:
        """Why nothing goes out on this channel, as `refresh` found it last. None: nothing is stopped."""
        if not self._stops:
            return None
        return self._stops.get((application_id, EVERY_CHANNEL)) or self._stops.get((application_id, channel))

    async def _ask(self) -> None:
        try:
            found = await self._bus.call("application", "stops", ListStops(), Stops, timeout=_ASK_SECONDS)
        except (SignalError, msgspec.MsgspecError) as error:  # away, broken, or of another version
            if self._answered:
                _log.warning("stops_unknown", error_type=type(error).__name__)
            self._answered = False
        else:
            self._answered = True
            self._stops = {(stop.application_id, stop.channel): stop for stop in found.stops}
        self._ask_at = self._clock.monotonic() + FRESH_SECONDS

    def _asked(self, task: asyncio.Task[None]) -> None:
        self._asking = None
        if not task.cancelled():
            task.exception()  # seen here too, for when everybody who waited has gone


def held_key(stop: Stop) -> str:
    """Tells one stop's holding of an attempt from the next one's."""
    return f"stop:{stop.channel}:{stop.since_ms}"


def held_data(stop: Stop, channel: str) -> dict[str, Any]:
    """For the timeline. The operator's own words stay in the audit log."""
    return {"channel": channel, "stopped": stop.channel, "since_ms": stop.since_ms}
