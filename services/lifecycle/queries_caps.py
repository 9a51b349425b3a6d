"""SQL of the lifecycle service for frequency caps: who was sent how much, in windows that roll with Postgres' clock."""

from collections.abc import Sequence
from typing import NamedTuple

from libs.pg import Connection

# In the order of the keys, so that two that count do not wait for each other in a circle.
LOCK_COUNTING = """
SELECT pg_advisory_xact_lock(hashtext(k.application_id), k.part)
FROM unnest($1::text[], $2::integer[]) AS k (application_id, part)
"""
# By then all locks are held: what others reserved before is committed, and not later than this.
CLOCK_MS = "SELECT (extract(EPOCH FROM statement_timestamp()) * 1000)::bigint"
# A place is for the shortest of all windows. Whoever still was not sent by then, and comes back, is counted anew.
RESERVED = """
WITH old AS (
    DELETE FROM lifecycle.reserved_sends AS s
    WHERE s.message_id = ANY ($1::uuid[]) AND s.at <= to_timestamp($2::bigint / 1000.0) - interval '1 hour'
        AND coalesce((SELECT m.status FROM lifecycle.messages AS m WHERE m.id = s.message_id), 'pending')
            IN ('pending', 'errored')
    RETURNING s.message_id
)
SELECT message_id FROM lifecycle.reserved_sends WHERE message_id = ANY ($1::uuid[])
EXCEPT SELECT message_id FROM old
"""
# Few windows are nearly full: only there it is asked what became of the messages, and when the first of them leave.
COUNT_SENDS = """
SELECT CASE WHEN rough.count + w.more > w.most THEN exact.count ELSE rough.count END AS count, exact.free_at_ms
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::integer[], $5::integer[], $6::integer[])
    WITH ORDINALITY AS w (application_id, subject_id, category, seconds, most, more, place)
CROSS JOIN LATERAL (
    SELECT count(*) AS count FROM lifecycle.reserved_sends AS s
    WHERE s.application_id = w.application_id AND s.subject_id = w.subject_id
        AND s.at > to_timestamp($7::bigint / 1000.0) - w.seconds * interval '1 second'
        AND (w.category IS NULL OR s.category = w.category)
) AS rough
CROSS JOIN LATERAL (
    SELECT count(*) AS count,
        (extract(EPOCH FROM (array_agg(s.at ORDER BY s.at))[greatest(1, count(*) - w.most + 1)]) * 1000)::bigint
            + w.seconds * 1000 AS free_at_ms
    FROM lifecycle.reserved_sends AS s
    WHERE rough.count + w.more > w.most
        AND s.application_id = w.application_id AND s.subject_id = w.subject_id
        AND s.at > to_timestamp($7::bigint / 1000.0) - w.seconds * interval '1 second'
        AND (w.category IS NULL OR s.category = w.category)
        AND coalesce((SELECT m.status FROM lifecycle.messages AS m WHERE m.id = s.message_id), '')
            NOT IN ('failed', 'cancelled')
) AS exact
ORDER BY w.place
"""
RESERVE = """
INSERT INTO lifecycle.reserved_sends (message_id, application_id, subject_id, category, at)
SELECT r.message_id, r.application_id, r.subject_id, r.category, to_timestamp($5::bigint / 1000.0)
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[]) AS r (message_id, application_id, subject_id, category)
ORDER BY r.message_id
ON CONFLICT DO NOTHING
"""
GIVE_BACK = "DELETE FROM lifecycle.reserved_sends WHERE message_id = ANY ($1::uuid[])"
FORGET_SUBJECTS = """
DELETE FROM lifecycle.reserved_sends WHERE application_id = $1 AND subject_id = ANY ($2::uuid[])
"""
DELETE_OLD_SENDS = """
DELETE FROM lifecycle.reserved_sends WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM lifecycle.reserved_sends WHERE at < now() - interval '7 days' ORDER BY at LIMIT $1))
"""


class Window(NamedTuple):
    """What is counted of one person for one cap."""

    application_id: str
    subject_id: str
    category: str | None
    seconds: int
    limit: int


class Counted(NamedTuple):
    messages: int
    free_at_ms: int | None
    """When so many have left that one more has room. None: nobody is in the window, or it is far from full."""


async def lock_counting(c: Connection, keys: Sequence[tuple[str, int]]) -> int:
    """Waits for whoever counts under one of the keys (application id, part), sorted. Returns the time, Unix ms."""
    await c.execute(LOCK_COUNTING, *zip(*keys, strict=True))
    return int(await c.fetchval(CLOCK_MS))


async def reserved(c: Connection, ids: Sequence[str], at_ms: int) -> set[str]:
    """Who has a place at this time, Unix ms."""
    return {str(row["message_id"]) for row in await c.fetch(RESERVED, ids, at_ms)}


async def count_sends(c: Connection, windows: dict[Window, int], at_ms: int) -> dict[Window, Counted]:
    """`windows`: each with how many more are asked for."""
    rows = await c.fetch(COUNT_SENDS, *zip(*windows, strict=True), list(windows.values()), at_ms)
    return {window: Counted(*row) for window, row in zip(windows, rows, strict=True)}


async def reserve(c: Connection, rows: Sequence[tuple[str, str, str, str]], at_ms: int) -> None:
    """Rows of (message id, application id, subject id, category)."""
    await c.execute(RESERVE, *zip(*rows, strict=True), at_ms)


async def give_back(c: Connection, ids: Sequence[str]) -> None:
    await c.execute(GIVE_BACK, ids)


async def forget_subjects(c: Connection, application_id: str, subjects: Sequence[str]) -> None:
    await c.execute(FORGET_SUBJECTS, application_id, subjects)


async def delete_old_sends(c: Connection, limit: int) -> int:
    """Those that no window reaches any more. Returns how many."""
    return int((await c.execute(DELETE_OLD_SENDS, limit)).rsplit(" ", 1)[1])
