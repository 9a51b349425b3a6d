"""SQL of the lifecycle service for emergency stops: what they hold lies in `due`, in the far future."""

from collections.abc import Sequence

from libs.pg import Connection

# One step of the index for each application and channel, however many messages they hold.
HELD_CHANNELS = """
WITH RECURSIVE held AS (
    (SELECT application_id, reason FROM lifecycle.due
    WHERE reason LIKE 'emergency_stop:%'
    ORDER BY application_id, reason LIMIT 1)
    UNION ALL
    SELECT following.application_id, following.reason
    FROM held CROSS JOIN LATERAL (
        SELECT application_id, reason FROM lifecycle.due AS d
        WHERE reason LIKE 'emergency_stop:%' AND (d.application_id, d.reason) > (held.application_id, held.reason)
        ORDER BY d.application_id, d.reason LIMIT 1) AS following
)
SELECT application_id, split_part(reason, ':', 2) AS channel FROM held
"""
COUNT_RELEASED = """
SELECT count(*) FROM (
    SELECT FROM lifecycle.due WHERE due_at <= now() AND reason LIKE 'emergency_stop:%' LIMIT $1) AS released
"""
# The oldest first. Rows that somebody else has locked are left to the next round, so that nobody waits in a circle.
RELEASE = """
UPDATE lifecycle.due AS d SET due_at = now()
FROM unnest($1::uuid[], $2::text[]) AS r (application_id, reason)
CROSS JOIN LATERAL (
    SELECT message_id FROM lifecycle.due AS h
    WHERE h.application_id = r.application_id AND h.reason = r.reason AND h.reason LIKE 'emergency_stop:%'
        AND h.due_at > now() + interval '1 year'
    ORDER BY h.due_at
    LIMIT $3
    FOR UPDATE SKIP LOCKED) AS picked
WHERE d.message_id = picked.message_id
"""


async def held_channels(c: Connection) -> list[tuple[str, str]]:
    """(application id, channel) of all that is held or was just released."""
    return [(str(row["application_id"]), row["channel"]) for row in await c.fetch(HELD_CHANNELS)]


async def count_released(c: Connection, limit: int) -> int:
    """Released messages that the timekeeper has not taken yet, counted up to `limit`."""
    return int(await c.fetchval(COUNT_RELEASED, limit))


async def release(c: Connection, held: Sequence[tuple[str, str]], limit: int) -> None:
    """Rows of (application id, reason): up to `limit` messages of each are due now."""
    await c.execute(RELEASE, *zip(*held, strict=True), limit)
