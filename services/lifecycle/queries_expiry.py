"""SQL of what is overdue: hand-offs past a deadline of theirs, messages without a receipt."""

from collections.abc import Mapping, Sequence

from libs.pg import Connection, Row

# hand-offs ------------------------------------------------------------------------------------------------------------

OVERDUE_HANDOFFS = """
SELECT id, cardinality(message_ids) AS size FROM lifecycle.handoffs
WHERE expires_at < now() - $1 * interval '1 millisecond'
ORDER BY expires_at LIMIT $2
"""
SET_EXPIRY = """
UPDATE lifecycle.handoffs AS h SET expires_at = to_timestamp(x.at_ms / 1000.0)
FROM unnest($1::uuid[], $2::bigint[]) AS x (id, at_ms)
WHERE h.id = x.id
"""


async def overdue_handoffs(c: Connection, grace_ms: int, limit: int) -> list[tuple[str, int]]:
    """(hand-off id, messages in it), the longest overdue first."""
    return [(str(row["id"]), row["size"]) for row in await c.fetch(OVERDUE_HANDOFFS, grace_ms, limit)]


async def set_expiry(c: Connection, deadlines: Mapping[str, int]) -> None:
    """Hand-off id to the deadline, Unix ms, of the next of its open messages."""
    await c.execute(SET_EXPIRY, list(deadlines), list(deadlines.values()))


# receipts -------------------------------------------------------------------------------------------------------------

# Applications that ask for the first time are judged from there on: what is older than their hours stays as it is.
BEGIN_WALKS = """
INSERT INTO lifecycle.receipt_cursors (application_id, walk, last_id)
SELECT a.id, walk.n, lifecycle.first_id_at(now() - a.hours * interval '1 hour')
FROM unnest($1::uuid[], $2::integer[]) AS a (id, hours)
CROSS JOIN (VALUES (0), (1)) AS walk (n)
ON CONFLICT DO NOTHING
"""
END_WALKS = "DELETE FROM lifecycle.receipt_cursors WHERE application_id <> ALL ($1::uuid[])"
# Walks that have a message in front of them which is old enough, the one furthest behind first. LIMIT keeps each
# look to one step of the index.
OPEN_WALKS = """
SELECT w.application_id, w.walk
FROM (
    SELECT c.application_id, c.walk, c.last_id,
        lifecycle.first_id_at(now() - (a.hours + 24 * c.walk) * interval '1 hour') AS until
    FROM unnest($1::uuid[], $2::integer[]) AS a (id, hours)
    JOIN lifecycle.receipt_cursors AS c ON c.application_id = a.id
    OFFSET 0) AS w
CROSS JOIN LATERAL (
    SELECT FROM lifecycle.messages AS m
    WHERE m.application_id = w.application_id AND m.id > w.last_id AND m.id < w.until LIMIT 1) AS found
ORDER BY w.last_id LIMIT $3
"""
LOCK_WALK = "SELECT last_id FROM lifecycle.receipt_cursors WHERE application_id = $1 AND walk = $2 FOR UPDATE"
SET_WALK = "UPDATE lifecycle.receipt_cursors SET last_id = $3 WHERE application_id = $1 AND walk = $2"
WALK = """
SELECT m.id, m.application_id, m.channel, m.status, (extract(EPOCH FROM m.sent_at) * 1000)::bigint AS sent_at_ms,
    (extract(EPOCH FROM now()) * 1000)::bigint AS now_ms
FROM lifecycle.messages AS m
WHERE m.application_id = $1 AND m.id > $2
    AND m.id < lifecycle.first_id_at(now() - ($3::integer + 24 * $4::integer) * interval '1 hour')
ORDER BY m.id LIMIT $5
"""
AWAITED = """
SELECT a.message_id AS id, a.application_id, m.channel, coalesce(m.status, 'gone') AS status,
    (extract(EPOCH FROM m.sent_at) * 1000)::bigint AS sent_at_ms, (extract(EPOCH FROM now()) * 1000)::bigint AS now_ms
FROM (
    SELECT message_id, application_id FROM lifecycle.receipts_awaited
    WHERE look_at <= now() ORDER BY look_at LIMIT $1 FOR UPDATE SKIP LOCKED) AS a
LEFT JOIN lifecycle.messages AS m ON m.id = a.message_id
ORDER BY a.message_id
"""
AWAIT = """
INSERT INTO lifecycle.receipts_awaited (message_id, application_id, look_at)
SELECT x.id, x.application_id, to_timestamp(x.at_ms / 1000.0)
FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) AS x (id, application_id, at_ms)
ON CONFLICT (message_id) DO UPDATE SET look_at = excluded.look_at
"""
DECIDED = "DELETE FROM lifecycle.receipts_awaited WHERE message_id = ANY ($1::uuid[])"
# Sendings that nothing withdrew.
SENDINGS = """
SELECT s.message_id, s.attempt, (extract(EPOCH FROM s.occurred_at) * 1000)::bigint AS at_ms
FROM lifecycle.message_events AS s
WHERE s.message_id = ANY ($1::uuid[]) AND s.kind = 'sent' AND NOT EXISTS (
    SELECT FROM lifecycle.message_events AS w
    WHERE w.message_id = s.message_id AND w.attempt = s.attempt
        AND (w.kind = 'bounced' OR (w.kind = 'failed' AND w.reason = 'receipt_timeout')))
"""


async def begin_walks(c: Connection, hours: Mapping[str, int]) -> None:
    """Application id to its hours; those that do not ask any more are forgotten."""
    await c.execute(END_WALKS, list(hours))
    await c.execute(BEGIN_WALKS, list(hours), list(hours.values()))


async def open_walks(c: Connection, hours: Mapping[str, int], limit: int) -> list[tuple[str, int]]:
    """(application id, walk)."""
    rows = await c.fetch(OPEN_WALKS, list(hours), list(hours.values()), limit)
    return [(str(row["application_id"]), row["walk"]) for row in rows]


async def walk(c: Connection, application_id: str, number: int, hours: int, limit: int) -> list[Row]:
    """The next messages of a walk, which is locked."""
    last = await c.fetchval(LOCK_WALK, application_id, number)
    return [] if last is None else await c.fetch(WALK, application_id, last, hours, number, limit)


async def set_walk(c: Connection, application_id: str, number: int, last_id: str) -> None:
    await c.execute(SET_WALK, application_id, number, last_id)


async def awaited(c: Connection, limit: int) -> list[Row]:
    """What is to be looked at again now, locked; `status` is `gone` where the message's week was put away."""
    return await c.fetch(AWAITED, limit)


async def await_receipts(c: Connection, rows: Sequence[tuple[str, str, int]]) -> None:
    """Rows of (message id, application id, when to look at it, Unix ms)."""
    if rows:
        await c.execute(AWAIT, *zip(*rows, strict=True))


async def decided(c: Connection, ids: Sequence[str]) -> None:
    await c.execute(DECIDED, ids)


async def sendings(c: Connection, ids: Sequence[str]) -> list[Row]:
    """(message_id, attempt, at_ms)."""
    return await c.fetch(SENDINGS, ids)
