"""SQL of the lifecycle service for messages that wait for their time: when, and how often that was said."""

from collections.abc import Sequence

from libs.envelope import Lane
from libs.pg import Connection

INSERT_SCHEDULED = """
INSERT INTO lifecycle.due (message_id, application_id, lane, due_at, reason)
SELECT d.message_id, d.application_id, d.lane, to_timestamp(d.due_at_ms / 1000.0), 'scheduled'
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[]) AS d (message_id, application_id, lane, due_at_ms)
"""
# `since` stays: the whole time from acceptance on is time scheduled.
MOVE_SCHEDULED = """
UPDATE lifecycle.due AS d SET due_at = to_timestamp(w.due_at_ms / 1000.0)
FROM unnest($1::uuid[], $2::bigint[]) AS w (message_id, due_at_ms)
WHERE d.message_id = w.message_id AND d.message_id = ANY ($1::uuid[]) AND d.reason = 'scheduled'
RETURNING d.message_id
"""
# Where more is due than a page: a share of the page for each application and lane, the critical lane's first, then
# those that are longest overdue. One step of the index for each that has anything in `due`. Rows are compared as wholes
# so that no other index serves.
DUE_IN_TURN = """
WITH RECURSIVE way AS (
    (SELECT lane, application_id FROM lifecycle.due ORDER BY lane, application_id LIMIT 1)
    UNION ALL
    SELECT following.lane, following.application_id
    FROM way CROSS JOIN LATERAL (
        SELECT d.lane, d.application_id FROM lifecycle.due AS d
        WHERE (d.lane, d.application_id) > (way.lane, way.application_id)
        ORDER BY d.lane, d.application_id LIMIT 1) AS following
), turn AS MATERIALIZED (
    SELECT way.lane, way.application_id FROM way CROSS JOIN LATERAL (
        SELECT d.due_at FROM lifecycle.due AS d
        WHERE (d.lane, d.application_id, d.due_at) >= (way.lane, way.application_id, '-infinity')
            AND (d.lane, d.application_id, d.due_at) <= (way.lane, way.application_id, now())
        ORDER BY d.lane, d.application_id, d.due_at LIMIT 1) AS oldest
    WHERE way.lane <> ALL ($2::text[])
    ORDER BY way.lane <> 'critical', oldest.due_at LIMIT $1
)
SELECT theirs.message_id FROM turn CROSS JOIN LATERAL (
    SELECT d.message_id FROM lifecycle.due AS d
    WHERE (d.lane, d.application_id, d.due_at) >= (turn.lane, turn.application_id, '-infinity')
        AND (d.lane, d.application_id, d.due_at) <= (turn.lane, turn.application_id, now())
    ORDER BY d.lane, d.application_id, d.due_at LIMIT (SELECT ceil($1::numeric / count(*)) FROM turn)) AS theirs
"""
IN_DUE = "SELECT message_id FROM lifecycle.due WHERE message_id = ANY ($1::uuid[])"
REVISIONS = """
SELECT message_id, count(*) AS revision FROM lifecycle.message_events
WHERE message_id = ANY ($1::uuid[]) AND kind = 'scheduled'
GROUP BY message_id
"""


async def insert_scheduled(c: Connection, rows: Sequence[tuple[str, str, str, int]]) -> None:
    """Rows of (message id, application id, lane, Unix milliseconds of Postgres' clock)."""
    await c.execute(INSERT_SCHEDULED, *zip(*rows, strict=True))


async def move_scheduled(c: Connection, times: dict[str, int]) -> set[str]:
    """Gives messages another time, Unix milliseconds. Returns those that waited for theirs; others stay as they are."""
    rows = await c.fetch(MOVE_SCHEDULED, list(times), list(times.values()))
    return {str(row["message_id"]) for row in rows}


async def due_in_turn(c: Connection, limit: int, without: Sequence[Lane] = ()) -> list[str]:
    """Some `limit` messages that are due: of each application and lane the oldest; none of the lanes `without`."""
    return [str(row["message_id"]) for row in await c.fetch(DUE_IN_TURN, limit, without)]


async def in_due(c: Connection, ids: Sequence[str]) -> set[str]:
    """Which of them wait there."""
    return {str(row["message_id"]) for row in await c.fetch(IN_DUE, ids)}


async def revisions(c: Connection, ids: Sequence[str]) -> dict[str, int]:
    """How often the time of each was set."""
    if not ids:
        return {}
    return {str(row["message_id"]): row["revision"] for row in await c.fetch(REVISIONS, ids)}
