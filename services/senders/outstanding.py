"""Calls under way, by application: one whose provider does not answer holds up itself alone (R11)."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable

from libs import telemetry
from libs.clock import Clock
from libs.envelope import Lane

from .contract import Accepted, Rejected, TryLater
from .settings import Sender as SenderSettings

FIRST = 10
"""Calls at a time of an application that nothing is known of; each answer allows one more."""
PROBES = 2
"""Calls at a time of one whose provider does not answer."""
LONGEST_AGE = 0.25
"""Part of `slow_after`: where calls take longer, only so many envelopes wait for their application's turn."""
_TENANTS = 10_000


class Call:
    """One call to a provider, from the moment it may begin until its outcome is stored."""

    __slots__ = ("detached", "ended", "slow", "started", "tenant")

    def __init__(self, tenant: "Tenant", started: float) -> None:
        self.tenant = tenant
        self.started = started
        self.ended = False
        self.slow = False
        self.detached = False
        """It has given its place in the lane to another."""


class Tenant:
    """One application's part of a lane. Its limit falls with each call that gets slow and rises with each answer."""

    def __init__(self, most: int, patience: float, waiting: int, clock: Clock) -> None:
        self.outstanding = 0
        self._most = most
        self._patience = patience
        self._most_waiting = waiting
        self._clock = clock
        self._limit = min(FIRST, most)
        self._slow = 0
        self._stuck_since: float | None = None
        self._calls: dict[Call, None] = {}
        self._waiting: deque[asyncio.Future[bool]] = deque()

    @property
    def limit(self) -> int:
        return self._limit

    @property
    def is_idle(self) -> bool:
        return not self.outstanding and not self._waiting

    @property
    def is_stuck(self) -> bool:
        """Its provider does not answer: half of what is under way got slow, or all that is let through are probes."""
        if self._stuck_since is not None and self._limit <= PROBES:
            return True
        return 2 * self._slow >= self.outstanding > 0

    def oldest(self) -> float:
        """Seconds for which the oldest call is under way."""
        first = next(iter(self._calls), None)
        return 0.0 if first is None else self._clock.monotonic() - first.started

    def stuck_for(self) -> float:
        """Seconds since an answer was to be expected."""
        return 0.0 if self._stuck_since is None else self._clock.monotonic() - self._stuck_since

    def admit(self) -> bool | None:
        """True: a call is counted, to be ended or withdrawn. False: its turn would take too long. None: see `turn`."""
        if self.outstanding < self._limit:
            self.outstanding += 1
            return True
        if self.is_stuck or (len(self._waiting) >= self._most_waiting and self.oldest() >= self._patience):
            return False
        return None

    async def turn(self) -> bool:
        """Waits; then says what `admit` would."""
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        return await waiter

    def withdraw(self) -> None:
        """What was admitted is not called."""
        self.outstanding -= 1
        self._grant()

    def began(self, call: Call) -> None:
        self._calls[call] = None

    def turned_slow(self, call: Call) -> None:
        call.slow = True
        self._slow += 1
        self._limit = max(min(PROBES, self._most), self._limit - 1)
        if 2 * self._slow >= self.outstanding and self._stuck_since is None:
            self._stuck_since = call.started
        if self.is_stuck:
            for waiter in self._waiting:
                if not waiter.done():
                    waiter.set_result(False)
            self._waiting.clear()

    def ended(self, call: Call, answered: bool) -> None:
        del self._calls[call]
        self.outstanding -= 1
        self._slow -= call.slow
        if answered:
            self._stuck_since = None
            self._limit = min(self._most, self._limit + 1 + call.slow)
        self._grant()

    def _grant(self) -> None:
        while self._waiting and self.outstanding < self._limit:
            waiter = self._waiting.popleft()
            if not waiter.done():
                self.outstanding += 1
                waiter.set_result(True)


class Outstanding:
    """The calls of one lane: so many at a time, so many unreported, and apart from these those that got slow.

    A call older than `slow_after` gives its places back: what a crash can repeat stays bounded by `concurrency`, one
    batch of outcomes, and the calls without an answer, at most `max_outstanding`.
    """

    def __init__(
        self, channel: str, lane: Lane, settings: SenderSettings, clock: Clock, under_way: Callable[[int], None]
    ) -> None:
        """`under_way` hears of each call that begins (1) and that ends or gets slow (-1)."""
        self._settings = settings
        self._clock = clock
        self._under_way = under_way
        self._calls = asyncio.Semaphore(settings.concurrency)
        self._unreported = asyncio.Semaphore(settings.concurrency + settings.outcome_batch)
        self._tenants: OrderedDict[str, Tenant] = OrderedDict()
        self._in_order: deque[Call] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._detached = 0
        self._gauge = telemetry.gauge("calls_without_answer", channel=channel, lane=lane)

    def tenant(self, application_id: str) -> Tenant:
        found = self._tenants.get(application_id)
        if found is None:
            found = self._tenants[application_id] = self._new_tenant()
            if len(self._tenants) > _TENANTS:
                self._forget_one()
        self._tenants.move_to_end(application_id)
        return found

    def _new_tenant(self) -> Tenant:
        own = self._settings
        return Tenant(own.application_concurrency, own.slow_after * LONGEST_AGE, max(1, own.parked // 2), self._clock)

    def _forget_one(self) -> None:
        application_id, oldest = next(iter(self._tenants.items()))
        if oldest.is_idle:
            del self._tenants[application_id]
        else:
            self._tenants.move_to_end(application_id)

    async def enter(self, tenant: Tenant) -> Call:
        """Waits for a place in the lane, for a call that its tenant has admitted."""
        await self._unreported.acquire()
        await self._calls.acquire()
        call = Call(tenant, self._clock.monotonic())
        tenant.began(call)
        self._in_order.append(call)
        self._under_way(1)
        if self._timer is None:
            self._arm(self._settings.slow_after)
        return call

    def leave(self, call: Call, result: object) -> None:
        """The call is over; what came of it is yet to be reported."""
        call.ended = True
        if not call.detached:
            self._calls.release()
            self._under_way(-1)
        call.tenant.ended(call, _is_answer(result))

    def reported(self, call: Call) -> None:
        if call.detached:
            self._detached -= 1
            self._gauge.dec()
        else:
            self._unreported.release()

    def withdraw(self, call: Call) -> None:
        """Nobody was called."""
        self.leave(call, None)
        self.reported(call)

    def sweep(self) -> None:
        """Calls that have become slow give their places back."""
        now = self._clock.monotonic()
        left = self._settings.slow_after
        while self._in_order:
            call = self._in_order[0]
            left = call.started + self._settings.slow_after - now
            if left > 0 and not call.ended:
                break
            self._in_order.popleft()
            if not call.ended:
                self._turn_slow(call)
        self._timer = None
        if self._in_order:
            self._arm(left)

    def _arm(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self.sweep)

    def _turn_slow(self, call: Call) -> None:
        call.tenant.turned_slow(call)
        if self._detached < self._settings.max_outstanding:
            self._detached += 1
            self._gauge.inc()
            call.detached = True
            self._calls.release()
            self._unreported.release()
            self._under_way(-1)


def _is_answer(result: object) -> bool:
    """The provider took notice: no timeout, no lost connection."""
    match result:
        case Accepted() | Rejected():
            return True
        case TryLater():
            return result.retry_class != "network"
    return False
