"""SQL of the weeks of the log. The work is done by functions of the owner (0014): this role owns no table (R2)."""

from datetime import date

from libs.pg import Connection, Row

PATIENCE = "SELECT set_config('statement_timeout', '1000', true)"
"""For the transaction: what takes longer is given up and tried again later."""
MISSING = """
SELECT parent, week::date AS week
FROM generate_series(date_trunc('week', now() AT TIME ZONE 'UTC'),
    date_trunc('week', now() AT TIME ZONE 'UTC') + $1 * interval '7 days', interval '7 days') AS week
CROSS JOIN unnest(ARRAY['message_events', 'messages']) AS parent
WHERE to_regclass('lifecycle.' || parent || '_' || lifecycle.week_label(week::date)) IS NULL
ORDER BY week, parent
"""
ADD = "SELECT lifecycle.add_partition($1, $2)"
NEXT_OVER = """
SELECT a.week FROM lifecycle.attached_weeks AS a
LEFT JOIN lifecycle.archived_weeks AS w ON w.week = a.week
WHERE a.week + 7 + $1::integer < (now() AT TIME ZONE 'UTC')::date AND (w.look_at IS NULL OR w.look_at <= now())
ORDER BY a.week LIMIT 1
"""
COUNT = "SELECT lifecycle.count_week($1, $2)"
ARCHIVE = "SELECT lifecycle.archive_week($1)"
EXTENT = """
SELECT count(*) FILTER (WHERE week > (now() AT TIME ZONE 'UTC')::date) AS ahead,
    coalesce((now() AT TIME ZONE 'UTC')::date - min(week), 0) AS oldest_days
FROM lifecycle.attached_weeks
"""


async def missing(c: Connection, weeks: int) -> list[Row]:
    """Rows of (parent, week): tables that the present week and the next `weeks` lack."""
    return await c.fetch(MISSING, weeks)


async def add(c: Connection, parent: str, week: date) -> bool:
    """False: it is there already, or another process is at it. Within a transaction."""
    await c.execute(PATIENCE)
    return bool(await c.fetchval(ADD, parent, week))


async def next_over(c: Connection, retention_days: int) -> date | None:
    """The oldest week that ended so long ago and does not wait for a message."""
    found: date | None = await c.fetchval(NEXT_OVER, retention_days)
    return found


async def count(c: Connection, week: date, page: int) -> str:
    return str(await c.fetchval(COUNT, week, page))


async def archive(c: Connection, week: date) -> str:
    """Within a transaction."""
    await c.execute(PATIENCE)
    return str(await c.fetchval(ARCHIVE, week))


async def extent(c: Connection) -> Row:
    """`ahead`: weeks that are ready beyond the present one; `oldest_days`: since the oldest one began."""
    (row,) = await c.fetch(EXTENT)
    return row
