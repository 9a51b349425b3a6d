"""The regions that a sender process serves: its own, and others of its channel for as long as nobody lives there.

Pipelines for another region read the durable consumer of that region: its work is shared with whoever else reads it,
and what a dead sender held comes when its time is up, as suspect. So a takeover too many costs nothing but calls from
further away.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from libs import telemetry
from libs.bus import Bus
from libs.envelope import LANES, Lane
from libs.errors import SignalError
from libs.presence import Presence
from libs.subjects import route_of, send, stream_of

from .deliver import Pipeline
from .settings import Sender as SenderSettings

LOOK_SECONDS = 1.0
"""Between two looks at who lives and what waits."""
STEADY_SECONDS = 3.0
"""A region whose sender has lived so long is handed back."""
MOST = 16
"""Regions served by one process at the same time."""

Make = Callable[[Lane, str], Pipeline]
Spawn = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]
_log = telemetry.logger("takeover")


class Station:
    """All lanes of one region, from its making on. A task of it that fails stops the process in order (`Spawn`)."""

    def __init__(self, region: str, pipelines: Sequence[Pipeline], spawn: Spawn) -> None:
        self._pipelines = pipelines
        self.leaving = False
        self._over = False
        self._reporters = [spawn(self._report(each), f"report_{region}") for each in pipelines]
        self._consumers = [spawn(each.consumer.run(), f"deliver_{region}") for each in pipelines]

    async def leave(self) -> None:
        """Take nothing new; what is in hand is finished, or given back, within `libs.consume.STOP_SECONDS` and the
        time of one provider call, and every outcome is stored. May be called by several."""
        self.leaving = True
        for pipeline in self._pipelines:
            await pipeline.consumer.stop()
        await asyncio.wait(self._consumers)
        self._over = True
        for reporter in self._reporters:
            reporter.cancel()

    async def _report(self, pipeline: Pipeline) -> None:
        try:
            await pipeline.reporter.run()
        except asyncio.CancelledError:
            if not self._over:
                raise


class Regions:
    """Keeps the station of the own region, and those of deserted ones."""

    def __init__(self, bus: Bus, presence: Presence, own: SenderSettings, make: Make, spawn: Spawn) -> None:
        self._bus = bus
        self._presence = presence
        self._own = own
        self._make = make
        self._spawn = spawn
        self._stations: dict[str, Station] = {}
        self._stopping = asyncio.Event()

    @property
    def served(self) -> list[str]:
        return sorted(self._stations)

    async def run(self) -> None:
        """Until `stop`, and until all that was in hand then is finished or given back."""
        self._begin(self._own.region)
        looking, stopped = asyncio.create_task(self._look()), asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({looking, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if looking.done():
                looking.result()
        finally:
            looking.cancel()  # it may wait long for an answer of NATS
            stopped.cancel()
        await asyncio.gather(*(station.leave() for station in self._stations.values()))

    async def _look(self) -> None:
        """For ever: who lives, and what waits."""
        while True:
            self._hand_back()
            for region in await self._deserted():
                _log.warning("region_taken_over", channel=self._own.channel, region=region)
                self._begin(region)
            await asyncio.sleep(LOOK_SECONDS)

    async def stop(self) -> None:
        self._stopping.set()
        await self._presence.drain()

    def _begin(self, region: str) -> None:
        self._stations[region] = Station(region, [self._make(lane, region) for lane in LANES], self._spawn)
        if region != self._own.region:
            self._taken_over(region, 1)

    def _hand_back(self) -> None:
        for region, station in self._stations.items():
            if region == self._own.region or station.leaving:
                continue
            if self._presence.is_served(self._own.channel, region, STEADY_SECONDS):
                _log.info("region_handed_back", channel=self._own.channel, region=region)
                station.leaving = True
                self._spawn(self._leave(region, station), f"leave_{region}")

    async def _leave(self, region: str, station: Station) -> None:
        await station.leave()
        self._taken_over(region, 0)
        del self._stations[region]

    def _taken_over(self, region: str, value: int) -> None:
        telemetry.gauge("region_taken_over", channel=self._own.channel, region=region).set(value)

    async def _deserted(self) -> list[str]:
        """Regions where work waits, nobody lives, and this process is to step in."""
        silent = self._own.takeover_after
        if self._own.standby_for == "none" or self._presence.listening() < silent:
            return []
        found = [
            region
            for region in sorted(await self._waiting() - self._stations.keys())
            if self._own.stands_by_for(region) and self._presence.silence(self._own.channel, region) >= silent
        ]
        return [] if self._stopping.is_set() else found[: MOST - len(self._stations)]

    async def _waiting(self) -> set[str]:
        """Regions with deliveries of this channel in the streams, those in the hands of the dead among them."""
        found: set[str] = set()
        for lane in LANES:
            with contextlib.suppress(SignalError):  # while NATS is away nothing can be taken over
                info = await self._bus.stream_state(stream_of("SEND", lane), send(lane, self._own.channel, "*"))
                found |= {route_of(subject)[1] for subject in info.state.subjects or {}}
        return found
