"""Emergency stops end: what they held is moved forward to the timekeeper, a few thousand messages at a time."""

from libs.bus import Bus
from libs.pg import Pool
from libs.rpc import ListStops, Stops
from libs.stops import EVERY_CHANNEL, REASON
from libs.waits import due_reason

from . import queries_stops as queries

ROOM = 2_000
"""Released messages that may wait for the timekeeper at once: a million of them must not come together."""


class Release:
    def __init__(self, pool: Pool, bus: Bus) -> None:
        self._pool = pool
        self._bus = bus

    async def round(self) -> bool:
        """Nothing is asked while nothing is held; while nobody knows the stops, all stays where it is."""
        async with self._pool.connection() as c:
            held = await queries.held_channels(c)
        if not held:
            return False
        stops = (await self._bus.call("application", "stops", ListStops(), Stops)).stops
        stopped = {(stop.application_id, stop.channel) for stop in stops}
        released = [
            (application_id, due_reason(REASON, channel))
            for application_id, channel in held
            if stopped.isdisjoint({(application_id, channel), (application_id, EVERY_CHANNEL)})
        ]
        if released:
            async with self._pool.connection() as c:
                room = ROOM - await queries.count_released(c, ROOM)
                await queries.release(c, released, -(-room // len(released)))
        return False
