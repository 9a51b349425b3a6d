"""Lists of subscriptions, newest first. No page looks at more rows than a bound, however rare what it wants."""

from typing import Any

import msgspec

from libs.clock import Clock
from libs.errors import ResourceNotFound, ValidationFailed
from libs.ids import is_id
from libs.pg import Connection, Pool
from libs.rpc import ListSubscriptions, SubscriptionPage, SubscriptionView
from services.subscription import persons, queries_lists
from services.subscription.queries_lists import Filter

EXACT = 10_000
"""So far lists are counted."""
LOOKED_AT = 20_000
"""Rows that one page looks at where no index knows the filter: what is rare among millions comes in short pages."""
MAX_LIMIT = 101
REMEMBERED_FOR = 30.0
"""Seconds that the estimate of a long list stands: counting to `EXACT` costs more than the page."""
MAX_REMEMBERED = 10_000

_Rows = list[dict[str, Any]]


class Lists:
    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock
        self._long: dict[Filter, tuple[float, int]] = {}
        """Lists that are longer than is counted: until when that is believed, and their estimate."""

    async def list(self, request: ListSubscriptions) -> SubscriptionPage:
        """Raises `ValidationFailed`."""
        _check(request)
        if not is_id(request.application_id):
            return SubscriptionPage([], 0)
        async with self._pool.connection() as c:
            wanted = await _filter(c, request)
            if wanted is None:
                return SubscriptionPage([], 0)
            total, estimated = await self._total(c, wanted)
            rows = await self._page(c, wanted, request)
            views = [msgspec.convert(row, SubscriptionView) for row in rows[: request.limit]]
            before = views[-1].id if len(rows) > request.limit else await _go_on(c, wanted, request)
        return SubscriptionPage(views, total, estimated, before)

    async def _page(self, c: Connection, wanted: Filter, request: ListSubscriptions) -> _Rows:
        """One more than asked for, where there are more."""
        look_at = request.offset + request.limit + 1 if wanted.is_whole else LOOKED_AT
        return await queries_lists.page(c, wanted, request.before, look_at, request.offset, request.limit + 1)

    async def _total(self, c: Connection, wanted: Filter) -> tuple[int, bool]:
        """How many there are, and whether that is an estimate."""
        until, total = self._long.get(wanted, (0.0, 0))
        if until > self._clock.monotonic():
            return total, True
        if wanted.is_whole:
            total = await queries_lists.length(c, wanted, EXACT + 1)
            if total <= EXACT:
                return total, False
            total = max(total, await queries_lists.estimate(c, wanted))
        else:
            looked = await queries_lists.count(c, wanted, None, LOOKED_AT)
            if looked.at < LOOKED_AT:
                return looked.wanted, False
            share = looked.wanted / looked.at
            total = max(looked.wanted, round(await queries_lists.estimate(c, wanted) * share))
        if len(self._long) >= MAX_REMEMBERED:
            self._long.clear()
        self._long[wanted] = self._clock.monotonic() + REMEMBERED_FOR, total
        return total, True


def _check(request: ListSubscriptions) -> None:
    wrong = {}
    if not 1 <= request.limit < MAX_LIMIT:
        wrong["per_page"] = f"must be from 1 to {MAX_LIMIT - 1}"
    if not 0 <= request.offset <= 1_000_000:
        wrong["page"] = "is out of range"
    if request.before is not None and not is_id(request.before):
        wrong["cursor"] = "is not a cursor that was answered here"
    if wrong:
        raise ValidationFailed(fields=wrong)


async def _filter(c: Connection, request: ListSubscriptions) -> Filter | None:
    """None: there is no such user, so there is nothing. A status beyond the column's type is nobody's either."""
    owner = request.application_id.lower()
    if any("\0" in text for text in (request.type, request.tag) if text is not None):
        return None
    if request.status is not None and not -(2**15) <= request.status < 2**15:
        return None
    if request.user_id is None:
        return Filter(owner, None, request.type, request.status, request.tag)
    try:
        person = await persons.find(c, owner, request.user_id)
    except ResourceNotFound:
        return None
    return Filter(owner, person.id, request.type, request.status, request.tag)


async def _go_on(c: Connection, wanted: Filter, request: ListSubscriptions) -> str | None:
    """Where a page goes on that was short because it had looked at enough; None: there is no more."""
    if wanted.is_whole:
        return None
    looked = await queries_lists.count(c, wanted, request.before, LOOKED_AT)
    return looked.last if looked.at == LOOKED_AT else None
