"""Lists of messages, newest first. What a page costs is bounded, however many messages there are."""

from libs.pg import Pool, Row
from libs.rpc import ListMessages, MessagePage, MessageSummary

from . import queries_messages as queries
from .views import ms, required_ms, text

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
            messages=[_summary(row) for row in rows[: request.limit]],
            total=total,
            total_is_estimate=not exact,
            next_before=str(rows[request.limit - 1]["id"]) if more else None if from_here.all else from_here.last,
        )


def _summary(row: Row) -> MessageSummary:
    return MessageSummary(
        id=str(row["id"]),
        subscription_id=str(row["subscription_id"]),
        channel=row["channel"],
        lane=row["lane"],
        category=row["category"],
        status=row["status"],
        attempt=row["attempt"],
        created_at_ms=required_ms(row["created_at"]),
        sent_at_ms=ms(row["sent_at"]),
        received_at_ms=ms(row["received_at"]),
        converted_at_ms=ms(row["converted_at"]),
        failed_at_ms=ms(row["failed_at"]),
        cancelled_at_ms=ms(row["cancelled_at"]),
        reason=row["reason"],
        user_id=text(row["user_id"]),
        template_id=text(row["template_id"]),
        template_version=row["template_version"],
    )
