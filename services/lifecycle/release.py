"""What was held goes on: a stop was released, a breaker closed. It is moved forward to the timekeeper, oldest first, a
few thousand messages at a time; and for a breaker that is half open, a few as probes."""

from libs.bus import Bus
from libs.clock import Clock
from libs.pg import Connection, Pool
from libs.rpc import ListStops, Stops
from libs.stops import EVERY_CHANNEL
from libs.waits import Hold, due_reason, hold_of

from . import queries_breakers
from . import queries_stops as queries
from .breakers import SETTLED_SECONDS
from .queries_breakers import Way

ROOM = 2_000
"""Released messages that may wait for the timekeeper at once: a million of them must not come together."""
PROBES = 3
"""Messages that try at a time whether a provider is well again: the first may have expired, or be cancelled."""


class Release:
    """`breaker_seconds`: as in `Breakers`; a third of it after probes without a verdict, others are tried."""

    def __init__(self, pool: Pool, bus: Bus, clock: Clock, breaker_seconds: float) -> None:
        self._pool = pool
        self._bus = bus
        self._clock = clock
        self._probe_again = breaker_seconds / 3
        self._closed_since: dict[Way, float] = {}

    async def round(self) -> bool:
        """Nothing is asked while nothing is held; while nobody knows the stops, what they hold stays where it is."""
        async with self._pool.connection() as c:
            held = await queries.held(c)
        await self._past_breakers(_ways(held, "breaker"))
        await self._past_stops(_ways(held, "emergency_stop"))
        return False

    async def _past_breakers(self, held: list[Way]) -> None:
        if not held:
            self._closed_since = {}
            return
        async with self._pool.transaction() as c:
            still_open = await queries_breakers.still_open(c, held)
            await _release(c, "breaker", self._settled([way for way in held if way not in still_open]))
            waiting = [way for way in held if way in still_open]
            probed = await queries_breakers.begin_probes(c, waiting, self._probe_again) if waiting else []
            if probed:
                await queries.release(c, _rows("breaker", probed), PROBES)

    def _settled(self, closed: list[Way]) -> list[Way]:
        now = self._clock.monotonic()
        self._closed_since = {way: self._closed_since.get(way, now) for way in closed}
        return [way for way, since in self._closed_since.items() if now - since >= SETTLED_SECONDS]

    async def _past_stops(self, held: list[Way]) -> None:
        if not held:
            return
        stops = (await self._bus.call("application", "stops", ListStops(), Stops)).stops
        stopped = {(stop.application_id, stop.channel) for stop in stops}
        released = [way for way in held if stopped.isdisjoint({way, (way[0], EVERY_CHANNEL)})]
        async with self._pool.connection() as c:
            await _release(c, "emergency_stop", released)


async def _release(c: Connection, hold: Hold, ways: list[Way]) -> None:
    """An even share of the room for each."""
    if ways:
        room = ROOM - await queries.count_released(c, ROOM)
        await queries.release(c, _rows(hold, ways), -(-room // len(ways)))


def _ways(held: list[tuple[str, str]], hold: Hold) -> list[Way]:
    return [(application_id, reason.partition(":")[2]) for application_id, reason in held if hold_of(reason) == hold]


def _rows(hold: Hold, ways: list[Way]) -> list[tuple[str, str]]:
    return [(application_id, due_reason(hold, channel)) for application_id, channel in ways]
