"""How often an application may call: shares of its minute, leased from the one counter of all gateways."""

import asyncio
import math
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache

from libs import rpc
from libs.bus import Bus
from libs.clock import Clock
from libs.errors import RateLimitExceeded, ServiceUnavailable, SignalError
from services.ingest.auth import Caller

LIMITS: Mapping[rpc.Tier, int | None] = {"default": 300, "premium": 1_000, "enterprise": 5_000, "unlimited": None}
"""Requests a minute."""
SHARES = 50
"""A gateway leases 1/50 of the minute at a time: what several of them hold unused at its end stays within 5 %."""
MAX_WINDOWS = 10_000
"""Applications that are counted at the same time; the one that was idle longest gives up what it leased."""
MAX_QUESTIONS = 10
"""Leases that one request waits for, where others use them up before it."""

LIMIT, REMAINING, RESET = "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"
_UNLIMITED = {LIMIT: "unlimited", REMAINING: "unlimited", RESET: "0"}


class Window:
    """What this gateway holds of one application's minute."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.left = 0
        """Requests leased and not used."""
        self.beyond = limit
        """Requests that were not leased to anybody when we last asked."""
        self.ends_at = 0.0
        """By our monotonic clock, so that a wrong wall clock spoils nothing."""
        self.ends_ms = 0
        """The same moment by Postgres' clock, in Unix milliseconds."""
        self.used_up = False
        self.waiting = 0
        """Requests that wait for a lease."""
        self.asking: asyncio.Task[None] | None = None

    def take(self, now: float) -> bool:
        if now >= self.ends_at:
            self.left, self.used_up = 0, False
        if self.left <= 0:
            return False
        self.left -= 1
        return True

    def add(self, lease: rpc.Lease, asked_at: float) -> None:
        self.left = lease.granted  # it is asked only when nothing is left
        self.beyond = lease.remaining
        self.ends_ms = lease.window_ends_ms
        self.ends_at = asked_at + (lease.window_ends_ms - lease.now_ms) / 1000
        self.used_up = lease.granted <= 0

    def change(self, limit: int) -> None:
        """The application got another tier."""
        if limit != self.limit:
            self.limit, self.beyond, self.used_up = limit, limit, False

    def headers(self) -> dict[str, str]:
        remaining = min(self.left + self.beyond, self.limit)
        return {LIMIT: str(self.limit), REMAINING: str(remaining), RESET: str(math.ceil(self.ends_ms / 1000))}


@lru_cache(maxsize=MAX_WINDOWS)
def _apps_counter(application_id: str) -> str:
    """What `client` keys count on. Anybody has such a key: it must not use up the minute of the back end."""
    return str(uuid.uuid5(uuid.UUID(application_id), "client"))


class RateLimits:
    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._windows: OrderedDict[str, Window] = OrderedDict()

    async def admit(self, caller: Caller, told: dict[str, str]) -> None:
        """Counts one request, and puts what REF-001 wants said about it into `told`, whether it is admitted or not.

        Raises `RateLimitExceeded`, or `ServiceUnavailable` where nobody can tell.
        """
        limit = LIMITS[caller.tier]
        if limit is None:
            told.update(_UNLIMITED)
            return
        counter = caller.application_id if not caller.bearer_only else _apps_counter(caller.application_id)
        window = self._window(counter, limit)
        try:
            await self._take(counter, window)
        except ServiceUnavailable:
            again = math.ceil(self._clock.time()) + 1
            told.update({LIMIT: str(limit), REMAINING: "0", RESET: str(again)})
            raise
        except RateLimitExceeded:
            told.update(window.headers())
            raise
        told.update(window.headers())

    async def _take(self, application_id: str, window: Window) -> None:
        for _ in range(MAX_QUESTIONS):
            now = self._clock.monotonic()
            if window.take(now):
                return
            if window.used_up:
                raise RateLimitExceeded(limit=window.limit, retry_after=max(1, math.ceil(window.ends_at - now)))
            await self._lease(application_id, window)
        raise ServiceUnavailable(reason="no lease", retry_after=1)

    def _window(self, application_id: str, limit: int) -> Window:
        window = self._windows.get(application_id)
        if window is None:
            window = self._windows[application_id] = Window(limit)
            if len(self._windows) > MAX_WINDOWS:
                self._windows.popitem(last=False)
        else:
            self._windows.move_to_end(application_id)
            window.change(limit)
        return window

    async def _lease(self, application_id: str, window: Window) -> None:
        """Raises `ServiceUnavailable`. All who wait at the same time share one question."""
        window.waiting += 1
        try:
            if window.asking is None:
                window.asking = asyncio.create_task(self._ask(application_id, window))
                window.asking.add_done_callback(lambda task: _answered(window, task))
            await asyncio.shield(window.asking)
        except SignalError:
            raise ServiceUnavailable(service="application", retry_after=1) from None
        finally:
            window.waiting -= 1

    async def _ask(self, application_id: str, window: Window) -> None:
        asked_at = self._clock.monotonic()
        # Those who wait take theirs at once: leasing for them leaves no more unused than a share.
        want = max(1, window.limit // SHARES, window.waiting)
        question = rpc.LeaseRequests(application_id, window.limit, want)
        window.add(await self._bus.call("application", "lease", question, rpc.Lease), asked_at)


def _answered(window: Window, task: asyncio.Task[None]) -> None:
    window.asking = None
    if not task.cancelled():
        task.exception()  # seen here too, for when every caller has gone
