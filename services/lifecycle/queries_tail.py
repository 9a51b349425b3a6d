"""SQL of readers of the log: where they are, and what comes after it."""

from libs.pg import Connection, Row

# R13: order by (epoch, txid, position); visible is what no open transaction can still precede. The text of the id has
# another name than the column: ORDER BY would take it, and "10" comes before "9".
TAIL = """
SELECT epoch, txid::text AS xid, position, message_id, kind, attempt, key, application_id, reason, data,
    (extract(EPOCH FROM occurred_at) * 1000)::bigint AS occurred_at_ms
FROM lifecycle.message_events
WHERE (epoch, txid, position) > ($1::smallint, $2::text::xid8, $3::bigint)
    AND (epoch, txid) < (current_setting('automata.epoch')::smallint, pg_snapshot_xmin(pg_current_snapshot()))
ORDER BY epoch, txid, position
LIMIT $4
"""
TAIL_LAG_MS = """
SELECT coalesce(max((extract(EPOCH FROM now() - occurred_at) * 1000)::bigint), 0) FROM (
    SELECT occurred_at FROM lifecycle.message_events
    WHERE (epoch, txid, position) > ($1::smallint, $2::text::xid8, $3::bigint)
    ORDER BY epoch, txid, position LIMIT 1) AS oldest
"""
SELECT_CURSOR = "SELECT epoch, txid::text AS txid, position FROM lifecycle.cursors WHERE name = $1"
SAVE_CURSOR = """
INSERT INTO lifecycle.cursors (name, epoch, txid, position) VALUES ($1, $2::smallint, $3::text::xid8, $4::bigint)
ON CONFLICT (name) DO UPDATE SET epoch = excluded.epoch, txid = excluded.txid, position = excluded.position
"""
Cursor = tuple[int, str, int]
"""(epoch, txid, position) of the last event read."""
START: Cursor = (0, "0", 0)


async def tail(c: Connection, after: Cursor, limit: int) -> list[Row]:
    return await c.fetch(TAIL, *after, limit)


async def tail_lag_ms(c: Connection, after: Cursor) -> int:
    """Age of the oldest committed event behind the cursor, visible or held back."""
    return int(await c.fetchval(TAIL_LAG_MS, *after))


async def cursor(c: Connection, name: str) -> Cursor:
    row = await c.fetchrow(SELECT_CURSOR, name)
    return START if row is None else (row["epoch"], row["txid"], row["position"])


async def save_cursor(c: Connection, name: str, at: Cursor) -> None:
    await c.execute(SAVE_CURSOR, name, *at)
