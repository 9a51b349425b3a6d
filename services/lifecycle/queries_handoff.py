"""SQL of handing off again: what is due, what is still open, what an envelope is made of."""

from collections.abc import Sequence

from libs.pg import Connection, Row

# What an envelope is made of, from the log: the way back for retries and for lost work.
SELECT_SENDABLE = """
SELECT m.id, m.application_id, m.subscription_id, m.lane, m.category, m.attempt, e.sealed,
    (extract(EPOCH FROM m.created_at) * 1000)::bigint + m.ttl::bigint * 1000 + m.waited_ms AS deadline_ms
FROM lifecycle.messages AS m
JOIN lifecycle.message_events AS e
    ON e.message_id = m.id AND e.kind = 'created' AND e.attempt = 1 AND e.key = ''
WHERE m.id = ANY ($1::uuid[])
ORDER BY m.id
"""
SET_HANDOFF = """
UPDATE lifecycle.messages AS m SET handoff_id = h.handoff_id
FROM unnest($1::uuid[], $2::uuid[]) AS h (id, handoff_id)
WHERE m.id = h.id
"""
# Open: neither final, nor in due, nor handed off again since.
OPEN_MESSAGES = """
SELECT h.id AS handoff_id, h.repairs, m.id, m.application_id
FROM lifecycle.handoffs AS h
CROSS JOIN LATERAL unnest(h.message_ids) AS member (id)
JOIN lifecycle.messages AS m ON m.id = member.id
WHERE h.id = ANY ($1::uuid[])
    AND m.handoff_id = h.id
    AND m.status IN ('pending', 'errored')
    AND NOT EXISTS (SELECT FROM lifecycle.due AS d WHERE d.message_id = m.id)
ORDER BY m.id
"""
DELETE_HANDOFFS = "DELETE FROM lifecycle.handoffs WHERE id = ANY ($1::uuid[])"
COUNT_DUE = "SELECT count(*) FROM lifecycle.due"
DUE_NOW = """
SELECT message_id FROM lifecycle.due WHERE due_at <= now() ORDER BY due_at LIMIT $1
"""
NEXT_DUE_MS = "SELECT (extract(EPOCH FROM min(due_at) - now()) * 1000)::bigint FROM lifecycle.due"
# Messages are locked before due rows, here as everywhere: record, timekeeper and reconciler cannot deadlock. A later
# message replaces one with its collapse key, unless it was called back, or is not to be shown yet.
LOCK_DUE_MESSAGES = """
SELECT m.id, m.application_id, m.status, m.attempt,
    m.collapse_hash IS NOT NULL AND EXISTS (
        SELECT FROM lifecycle.messages AS later
        WHERE later.subscription_id = m.subscription_id AND later.collapse_hash = m.collapse_hash AND later.id > m.id
            AND later.status <> 'cancelled' AND NOT EXISTS (
                SELECT FROM lifecycle.due AS d WHERE d.message_id = later.id AND d.reason = 'scheduled')
    ) AS superseded,
    (extract(EPOCH FROM m.created_at) * 1000)::bigint + m.ttl::bigint * 1000 + m.waited_ms AS deadline_ms,
    (extract(EPOCH FROM now()) * 1000)::bigint AS now_ms
FROM lifecycle.messages AS m
WHERE m.id = ANY ($1::uuid[])
ORDER BY m.id
FOR NO KEY UPDATE SKIP LOCKED
"""
TAKE_DUE = """
DELETE FROM lifecycle.due WHERE message_id = ANY ($1::uuid[]) AND due_at <= now()
RETURNING message_id, reason,
    (extract(EPOCH FROM CASE WHEN reason = 'scheduled' THEN due_at ELSE now() END - since) * 1000)::bigint AS waited_ms
"""
# Sums of what the `retried` and `routed` events say, so that a rebuild finds the same.
EXTEND = """
UPDATE lifecycle.messages AS m SET waited_ms = m.waited_ms + x.waited_ms, uncounted = m.uncounted + x.uncounted
FROM unnest($1::uuid[], $2::bigint[], $3::smallint[]) AS x (id, waited_ms, uncounted)
WHERE m.id = x.id AND m.id = ANY ($1::uuid[])
"""


async def sendable(c: Connection, ids: list[str]) -> list[Row]:
    return await c.fetch(SELECT_SENDABLE, ids)


async def set_handoff(c: Connection, pairs: Sequence[tuple[str, str]]) -> None:
    """Pairs of (message id, hand-off id)."""
    if not pairs:
        return
    await c.execute(SET_HANDOFF, *zip(*pairs, strict=True))


async def open_messages(c: Connection, handoff_ids: list[str]) -> list[Row]:
    return await c.fetch(OPEN_MESSAGES, handoff_ids)


async def delete_handoffs(c: Connection, handoff_ids: list[str]) -> None:
    await c.execute(DELETE_HANDOFFS, handoff_ids)


async def count_due(c: Connection) -> int:
    return int(await c.fetchval(COUNT_DUE))


async def due_now(c: Connection, limit: int) -> list[str]:
    return [str(row["message_id"]) for row in await c.fetch(DUE_NOW, limit)]


async def next_due_ms(c: Connection) -> int | None:
    """Milliseconds until the earliest due row, negative if it is late; None when nothing waits."""
    found = await c.fetchval(NEXT_DUE_MS)
    return None if found is None else int(found)


async def lock_due_messages(c: Connection, ids: list[str]) -> list[Row]:
    return await c.fetch(LOCK_DUE_MESSAGES, ids)


async def take_due(c: Connection, ids: list[str]) -> dict[str, tuple[str, int]]:
    """Message id to what it waited for, and for how many milliseconds: a scheduled one until the time that was set."""
    return {str(row["message_id"]): (row["reason"], row["waited_ms"]) for row in await c.fetch(TAKE_DUE, ids)}


async def extend(c: Connection, rows: Sequence[tuple[str, int, int]]) -> None:
    """Rows of (message id, milliseconds that do not count towards the ttl, attempts that retries do not count)."""
    await c.execute(EXTEND, *zip(*rows, strict=True))
