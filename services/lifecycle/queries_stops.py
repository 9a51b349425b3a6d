"""SQL of the lifecycle service for what waits in `due` until somebody ends it: a stop is released, a breaker closes."""

from collections.abc import Sequence

from libs.pg import Connection

# One step of the index for each application and reason, however many messages they hold.
HELD = """
WITH RECURSIVE held AS (
    (SELECT application_id, reason FROM lifecycle.due
    WHERE released_at IS NULL AND (reason LIKE 'breaker:%' OR reason LIKE 'emergency_stop:%')
    ORDER BY application_id, reason LIMIT 1)
    UNION ALL
    SELECT following.application_id, following.reason
    FROM held CROSS JOIN LATERAL (
        SELECT application_id, reason FROM lifecycle.due AS d
        WHERE released_at IS NULL AND (reason LIKE 'breaker:%' OR reason LIKE 'emergency_stop:%')
            AND (d.application_id, d.reason) > (held.application_id, held.reason)
        ORDER BY d.application_id, d.reason LIMIT 1) AS following
)
SELECT application_id, reason FROM held
"""
COUNT_RELEASED = """
SELECT count(*) FROM (SELECT FROM lifecycle.due WHERE released_at IS NOT NULL LIMIT $1) AS released
"""
# The oldest first, also among themselves. Rows that somebody else has locked are left to the next round, so that nobody
# waits in a circle.
RELEASE = """
UPDATE lifecycle.due AS d
SET due_at = now() - ($3 - picked.place) * interval '1 microsecond', released_at = now()
FROM unnest($1::uuid[], $2::text[]) AS r (application_id, reason)
CROSS JOIN LATERAL (
    SELECT oldest.message_id, row_number() OVER (ORDER BY oldest.message_id) AS place FROM (
        SELECT h.message_id FROM lifecycle.due AS h
        WHERE h.application_id = r.application_id AND h.reason = r.reason
            AND h.released_at IS NULL AND (h.reason LIKE 'breaker:%' OR h.reason LIKE 'emergency_stop:%')
        ORDER BY h.message_id
        LIMIT $3::bigint
        FOR UPDATE SKIP LOCKED) AS oldest) AS picked
WHERE d.message_id = picked.message_id
"""


async def held(c: Connection) -> list[tuple[str, str]]:
    """(application id, reason of its rows in `due`) of all that waits to be released."""
    return [(str(row["application_id"]), row["reason"]) for row in await c.fetch(HELD)]


async def count_released(c: Connection, limit: int) -> int:
    """Released messages that the timekeeper has not taken yet, counted up to `limit`."""
    return int(await c.fetchval(COUNT_RELEASED, limit))


async def release(c: Connection, held: Sequence[tuple[str, str]], limit: int) -> None:
    """Rows of (application id, reason): up to `limit` messages of each are due now."""
    await c.execute(RELEASE, *zip(*held, strict=True), limit)
