"""Looking subscriptions up, one by one, and their history. What is asked for together is read together."""

import msgspec

from libs.coalesce import Coalescer
from libs.errors import ResourceNotFound
from libs.ids import is_id
from libs.pg import Pool
from libs.rpc import (
    GetSubscription,
    ListSubscriptionEvents,
    SubscriptionEvents,
    SubscriptionEventView,
    SubscriptionView,
)
from services.subscription import queries_lists, queries_reading

CONCURRENCY = 4
MAX_EVENTS = 100
MAX_OFFSET = 1_000_000
EXACT = 10_000
"""So far a history is counted."""
_LAST_POSITION = 2**63 - 1


class Reader:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._coalescer = Coalescer[tuple[str, str], SubscriptionView | None](self._find, concurrency=CONCURRENCY)

    async def get(self, request: GetSubscription) -> SubscriptionView:
        """Raises `ResourceNotFound`."""
        found = None
        if is_id(request.application_id) and is_id(request.subscription_id):
            found = await self._coalescer.submit((request.application_id.lower(), request.subscription_id.lower()))
        if found is None:
            raise ResourceNotFound(id=request.subscription_id[:64])
        return found

    async def events(self, request: ListSubscriptionEvents) -> SubscriptionEvents:
        """Raises `ResourceNotFound`; an archived subscription keeps its history."""
        limit, offset = min(max(request.limit, 1), MAX_EVENTS), min(max(request.offset, 0), MAX_OFFSET)
        before = _LAST_POSITION if request.before is None else request.before
        where = request.application_id, request.subscription_id
        if not (is_id(request.application_id) and is_id(request.subscription_id)):
            raise ResourceNotFound(id=request.subscription_id[:64])
        async with self._pool.connection() as c:
            rows = await queries_lists.history(c, *where, before, limit + 1, offset)
            total = await queries_lists.count_history(c, *where, EXACT + 1)
            if not total and not await queries_lists.is_known(c, *where):
                raise ResourceNotFound(id=request.subscription_id[:64])
        events = [msgspec.convert(row, SubscriptionEventView) for row in rows[:limit]]
        return SubscriptionEvents(events, total, total > EXACT, events[-1].position if len(rows) > limit else None)

    async def _find(self, batch: list[tuple[str, str]]) -> list[SubscriptionView | Exception | None]:
        async with self._pool.connection() as c:
            found = await queries_reading.get_subscriptions(c, list(dict.fromkeys(batch)))
        return [msgspec.convert(found[each], SubscriptionView) if each in found else None for each in batch]
