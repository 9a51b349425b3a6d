"""Regions that get deliveries and have no sender: a region that the map misspells, or one that is down, is seen here.

Another region's senders may do the work meanwhile (`services.senders.takeover`); this says that they have to.
"""

import asyncio
from collections import Counter

from libs import telemetry
from libs.bus import Bus
from libs.envelope import LANES
from libs.errors import SignalError
from libs.presence import Presence
from libs.subjects import route_of, send, stream_of

from .decide import CHANNELS
from .regions import Regions

LOOK_SECONDS = 5.0
SILENT_SECONDS = 10.0
"""Longer than a restart of its only sender."""
_MOST = 100
"""Channels and regions that are watched: the map's, then those that have messages stored."""
_Route = tuple[str, str]
_log = telemetry.logger("unserved")


class Unserved:
    def __init__(self, bus: Bus, presence: Presence, regions: Regions) -> None:
        self._bus = bus
        self._presence = presence
        self._mapped = [(channel, region) for region in regions.all for channel in CHANNELS.values()]
        self._told: set[_Route] = set()

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        try:
            pending = await self._pending()
        except SignalError:
            return  # while NATS is away nobody can be heard either
        routes = list(dict.fromkeys([*self._mapped, *sorted(self._told), *sorted(pending)]))
        for route in routes[:_MOST]:
            self._judge(route, pending[route])

    def _judge(self, route: _Route, pending: int) -> None:
        channel, region = route
        silent = self._presence.silence(channel, region)
        gauge = telemetry.gauge("unserved_pending", channel=channel, region=region)
        if silent < SILENT_SECONDS:
            gauge.set(0)
            self._told.discard(route)
            return
        gauge.set(pending)
        if route not in self._told:
            self._told.add(route)
            _log.warning("no_sender_lives", channel=channel, region=region, envelopes=pending, seconds=int(silent))

    async def _pending(self) -> Counter[_Route]:
        """Envelopes stored for each channel and region. Raises `SignalError`."""
        found: Counter[_Route] = Counter()
        for lane in LANES:
            info = await self._bus.stream_state(stream_of("SEND", lane), send(lane, "*", "*"))
            for subject, count in (info.state.subjects or {}).items():
                found[route_of(subject)] += count
        return found
