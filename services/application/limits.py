"""How often: the one counter of an application's requests, from which all gateways lease."""

from collections.abc import Iterable, Mapping, Sequence

from libs.clock import Clock
from libs.coalesce import Coalescer
from libs.pg import Pool
from libs.rpc import Lease, LeaseRequests
from services.application import queries_limits as queries
from services.application.checks import expect_id
from services.application.queries_limits import Asked, Taken

SWEEP_SECONDS = 60.0
MAX_LIMIT = 2**31 - 1
"""Postgres' integer."""


class Limits:
    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock
        self._sweep_at = 0.0
        self._asked: Coalescer[LeaseRequests, Lease] = Coalescer(self._lease)

    async def lease(self, request: LeaseRequests) -> Lease:
        limit = max(0, min(request.limit, MAX_LIMIT))
        want = max(0, min(request.want, limit))
        return await self._asked.submit(LeaseRequests(expect_id(request.application_id), limit, want))

    async def _lease(self, requests: list[LeaseRequests]) -> Sequence[Lease]:
        async with self._pool.connection() as c:
            if self._clock.monotonic() >= self._sweep_at:
                self._sweep_at = self._clock.monotonic() + SWEEP_SECONDS
                await queries.delete_old_windows(c)
            return shared_out(requests, await queries.take(c, summed(requests)))


def summed(requests: Iterable[LeaseRequests]) -> list[Asked]:
    """What each application asks for in all; where its tier has just changed, the lower limit holds."""
    sums: dict[str, Asked] = {}
    for each in requests:
        before = sums.get(each.application_id, Asked(each.application_id, 0, each.limit))
        limit = min(before.ceiling, each.limit)
        sums[each.application_id] = Asked(each.application_id, min(before.want + each.want, MAX_LIMIT), limit)
    return sorted(sums.values())


def shared_out(requests: Iterable[LeaseRequests], taken: Mapping[str, Taken]) -> list[Lease]:
    """What was taken for an application goes to who asked first."""
    left = {application_id: each.granted for application_id, each in taken.items()}
    leases = []
    for request in requests:
        window = taken[request.application_id]
        granted = min(request.want, left[request.application_id])
        left[request.application_id] -= granted
        leases.append(Lease(granted, window.remaining, window.window_ends_ms, window.now_ms))
    return leases
