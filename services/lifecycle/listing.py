"""Lists of messages, newest first. What a page costs is bounded, however many messages there are."""

from libs.pg import Pool
from libs.rpc import ListMessages, MessagePage

from . import queries_messages as queries
from .views import summary_of

EXACT = 10_000
"""Beyond so many the total is an estimate."""


class Listing:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def page(self, request: ListMessages) -> MessagePage:
        async with self._pool.connection() as c:
            newest = await queries.count(c, request, None)
            rows = await queries.page(c, request)
            more = len(rows) > request.limit
            from_here = newest if request.before is None or more else await queries.count(c, request, request.before)
            exact = newest.all and newest.wanted <= EXACT
            total = newest.wanted if exact else max(newest.wanted, await queries.estimate(c, request))
        return MessagePage(
            messages=[summary_of(row) for row in rows[: request.limit]],
            total=total,
            total_is_estimate=not exact,
            next_before=str(rows[request.limit - 1]["id"]) if more else None if from_here.all else from_here.last,
        )
