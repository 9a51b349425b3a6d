"""Whether a message may be called now: its application's turn, its rate, then a place in the lane (R11)."""

import random
from collections.abc import Callable

import msgspec

from libs.clock import ReferenceClock
from libs.consume import Held
from libs.envelope import Delivery, Lane

from .contract import Postponed
from .outstanding import Call, Outstanding, Tenant
from .pace import TOLERANCE_MS, Pace, Waiter
from .rate import Rates
from .schedule import PATIENCE_MS, Slots

SLOW_SECONDS = 5.0
"""Until a message comes back to a provider that does not answer; longer the longer that lasts, up to `SLOWEST`."""
SLOWEST_SECONDS = 30.0
_URGENT_MS = 500.0
_rolled = random.SystemRandom().uniform


class Entry(msgspec.Struct, eq=False):
    """One envelope, as far as it concerns whether its messages may be called."""

    application_id: str
    lane: Lane
    held: Held
    tenant: Tenant
    give_up_ms: float
    """Until then its messages may wait for their rate: after that all that are left go to `due`."""
    line: Slots | None = None
    """When those that are left come back."""


class Admission:
    """Nothing of the lane is taken before the application's own limits have let a message through."""

    def __init__(
        self, outstanding: Outstanding, rates: Rates, reference: ReferenceClock, park: Callable[[Held], None]
    ) -> None:
        """`park` is told of each envelope that waits for limits of its own application."""
        self._park = park
        self._outstanding = outstanding
        self._rates = rates
        self._reference = reference

    async def entry(self, application_id: str, lane: Lane, held: Held) -> Entry:
        """Raises `ServiceUnavailable` where the application's settings are not known yet."""
        await self._rates.learn(application_id)
        give_up_ms = self._reference.now_ms() + PATIENCE_MS * _rolled(0.5, 1.0)  # not all of them in one moment
        return Entry(application_id, lane, held, self._outstanding.tenant(application_id), give_up_ms)

    async def admit(self, entry: Entry, item: Delivery, left: int) -> Call | Postponed:
        """A place in the lane, to be left; or why the message waits in `due`. `left`: with it, in its envelope."""
        while True:
            turn = entry.tenant.admit()
            if turn is None:
                self._park(entry.held)
                turn = await entry.tenant.turn()
            if not turn:
                return self._slow(entry)
            pace = self._rates.pace(entry.application_id)
            moment = None if pace is None else await self._moment(pace, entry, item, left)
            if pace is not None and moment is None:
                entry.tenant.withdraw()
                return await self._limited(pace, entry, left)
            call = await self._outstanding.enter(entry.tenant)
            if moment is None or self._reference.now_ms() - moment <= TOLERANCE_MS:
                return call
            self._outstanding.withdraw(call)  # the lane was not free in time: called now, it would be one too many

    async def _moment(self, pace: Pace, entry: Entry, item: Delivery, left: int) -> float | None:
        if entry.line is not None:
            return None
        found = pace.admit(entry.lane, left, entry.give_up_ms, item.attempt == 1)
        if not isinstance(found, Waiter):
            return found
        self._park(entry.held)
        return await found.moment

    def _slow(self, entry: Entry) -> Postponed:
        tenant = entry.tenant
        seconds = min(max(SLOW_SECONDS, tenant.stuck_for()), SLOWEST_SECONDS) * _rolled(0.8, 1.2)
        until_ms = self._reference.now_ms() + int(seconds * 1_000)
        data = {
            "outstanding": tenant.outstanding,
            "limit": tenant.limit,
            "oldest_ms": int(tenant.oldest() * 1_000),
            "until_ms": until_ms,
        }
        return Postponed("provider_slow", f"slow:{entry.held.sequence}", until_ms, data)

    async def _limited(self, pace: Pace, entry: Entry, left: int) -> Postponed:
        if entry.line is None or not entry.line.count:
            entry.line = await self._line(pace, entry, left)
        until_ms = int(entry.line.pop())
        data = self._rates.explain(entry.application_id) | {"until_ms": until_ms}
        return Postponed("rate_limit", f"rate:{entry.held.sequence}", until_ms, data)

    async def _line(self, pace: Pace, entry: Entry, left: int) -> Slots:
        found = await pace.book(left, entry.lane)
        if found is not None:
            return found
        now_ms = self._reference.now_ms()
        earliest = _URGENT_MS if entry.lane == "critical" else PATIENCE_MS
        return Slots(now_ms + earliest * _rolled(1.0, 2.0), PATIENCE_MS / left, left)
