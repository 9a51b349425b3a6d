"""SQL of the rebuild: the projection of a range of ids, as it is and as the log has it; and hand-offs found again."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from libs.pg import Connection

from . import queries

FIRST = "00000000-0000-0000-0000-000000000000"
NO_HANDOFF = FIRST
LAST = "ffffffff-ffff-ffff-ffff-ffffffffffff"

_COLUMNS = (
    "application_id, subscription_id, channel, lane, category, ttl, collapse_hash, created_at, user_id, template_id, "
    "template_version, waited_ms, uncounted, status, attempt, reason, sent_at, received_at, converted_at, failed_at, "
    "cancelled_at"
)
"""All of a row that comes from the log. The hand-off does not: that is the pipeline's own note, kept where it is."""
_RANGE = "message_id > $1 AND message_id <= $2"
# What the log amounts to, of the messages behind $1 up to $2: the same fold, over a range.
_TOLD = f"""
{queries.FOLD.replace("message_id = ANY ($1::uuid[])", _RANGE)}, projected AS (
    SELECT message_id, {queries.PROJECTED} FROM folded
), longer AS (
    SELECT message_id,
        sum((data ->> 'waited_ms')::bigint) AS waited_ms, sum((data ->> 'uncounted')::smallint) AS uncounted
    FROM lifecycle.message_events
    WHERE {_RANGE} AND kind IN ('retried', 'routed')
    GROUP BY message_id
), told AS (
    SELECT e.message_id AS id, e.application_id, (e.data ->> 'subscription_id')::uuid AS subscription_id,
        e.data ->> 'channel' AS channel, e.data ->> 'lane' AS lane, e.data ->> 'category' AS category,
        (e.data ->> 'ttl')::integer AS ttl, decode(e.data ->> 'collapse_hash', 'hex') AS collapse_hash,
        e.occurred_at AS created_at, (e.data ->> 'user_id')::uuid AS user_id,
        (e.data ->> 'template_id')::uuid AS template_id, (e.data ->> 'template_version')::integer AS template_version,
        coalesce(longer.waited_ms, 0)::bigint AS waited_ms, coalesce(longer.uncounted, 0)::smallint AS uncounted,
        p.status, p.attempt, p.reason, p.sent_at, p.received_at, p.converted_at, p.failed_at, p.cancelled_at
    FROM lifecycle.message_events AS e
    JOIN projected AS p ON p.message_id = e.message_id
    LEFT JOIN longer ON longer.message_id = e.message_id
    WHERE {_RANGE.replace("message_id", "e.message_id")} AND e.kind = 'created' AND e.attempt = 1 AND e.key = ''
)"""  # noqa: S608 - made of constants


def _of(table: str, columns: str) -> str:
    return ", ".join(f"{table}.{column}" for column in columns.split(", "))


def _row(table: str) -> str:
    return f"({_of(table, 'id, ' + _COLUMNS)})"


def _hash(table: str) -> str:
    return f"CASE WHEN {table}.id IS NOT NULL THEN hash_record_extended({_row(table)}, 0) END AS {table}_hash"


NO_LOOPS = "SELECT set_config('enable_nestloop', 'off', true)"
"""For the transaction: ranges are joined as wholes. The planner cannot know what a fold returns, and may take it for a
row or two, to be read again for each of thousands."""
# Where a range of about $2 facts ends; it has no more rows than that either.
END_OF_RANGE = f"""
SELECT coalesce(least(
    (SELECT message_id FROM lifecycle.message_events WHERE message_id > $1 ORDER BY message_id OFFSET $2 LIMIT 1),
    (SELECT id FROM lifecycle.messages WHERE id > $1 ORDER BY id OFFSET $2 LIMIT 1)), '{LAST}')
"""  # noqa: S608 - made of constants
# Facts and rows in one snapshot: what was committed together is seen together, so that a row which differs is wrong.
# What has no row gets one: no fact can have come since, as whoever records one finds the row first.
COMPARE = f"""
{_TOLD}, both_sides AS MATERIALIZED (
    SELECT told.*, m.id AS row_id, coalesce(m.handoff_id, '{NO_HANDOFF}') = '{NO_HANDOFF}' AS in_none,
        {_row("told")} IS DISTINCT FROM {_row("m")} AS differs, {_hash("told")}, {_hash("m")}
    FROM told
    FULL JOIN (SELECT * FROM lifecycle.messages WHERE id > $1 AND id <= $2) AS m ON m.id = told.id
), made AS (
    INSERT INTO lifecycle.messages (handoff_id, id, {_COLUMNS})
    SELECT '{NO_HANDOFF}', id, {_COLUMNS} FROM both_sides WHERE row_id IS NULL
    ON CONFLICT DO NOTHING
)
SELECT count(id) AS messages, count(*) FILTER (WHERE row_id IS NULL) AS missing,
    count(*) FILTER (WHERE id IS NULL) AS strangers,
    array_agg(id) FILTER (WHERE id IS NOT NULL AND row_id IS NOT NULL AND differs) AS wrong,
    bool_or((in_none OR differs) AND status IN ('pending', 'errored')) AS unplaced,
    coalesce(sum(m_hash), 0) AS found, coalesce(sum(told_hash), 0) AS told
FROM both_sides
"""  # noqa: S608 - made of constants
# Of the range, the messages of $3.
REPAIR = f"""
{_TOLD}
UPDATE lifecycle.messages AS m
SET ({_COLUMNS}) = ROW ({_of("told", _COLUMNS)})
FROM told
WHERE m.id = told.id AND m.id > $1 AND m.id <= $2 AND m.id = ANY ($3::uuid[])
"""  # noqa: S608 - made of constants
# The newest first. None is made that needs to be found: what is handed off meanwhile notes it in its rows.
HANDOFFS_BEFORE = """
SELECT id, created_at FROM lifecycle.handoffs
WHERE (created_at, id) < ($1, $2)
ORDER BY created_at DESC, id DESC
LIMIT $3
"""
ADOPTABLE = f"""
SELECT DISTINCT ON (member.id) member.id, h.id AS handoff_id
FROM lifecycle.handoffs AS h
CROSS JOIN LATERAL unnest(h.message_ids) AS member (id)
CROSS JOIN LATERAL (
    SELECT FROM lifecycle.messages WHERE id = member.id AND handoff_id = '{NO_HANDOFF}' OFFSET 0) AS m
WHERE h.id = ANY ($1::uuid[])
ORDER BY member.id, h.created_at DESC, h.id DESC
"""  # noqa: S608 - made of constants
ADOPT = f"""
UPDATE lifecycle.messages AS m SET handoff_id = h.handoff_id
FROM unnest($1::uuid[], $2::uuid[]) AS h (id, handoff_id)
JOIN lifecycle.handoffs AS live ON live.id = h.handoff_id
WHERE m.id = h.id AND m.id = ANY ($1::uuid[]) AND m.handoff_id = '{NO_HANDOFF}'
"""  # noqa: S608 - made of constants
# A row that was wrong for a while may have lost its hand-off: one whose messages all seem to be through is forgotten.
_IS_ORPHAN = """m.status IN ('pending', 'errored')
    AND NOT EXISTS (SELECT FROM lifecycle.handoffs AS h WHERE h.id = m.handoff_id)
    AND NOT EXISTS (SELECT FROM lifecycle.due AS d WHERE d.message_id = m.id)"""
ORPHANS_BEHIND = f"""
SELECT max(m.id::text) AS last, coalesce(array_agg(m.id::text ORDER BY m.id) FILTER (WHERE {_IS_ORPHAN}), '{{}}') AS ids
FROM (SELECT id, handoff_id, status FROM lifecycle.messages WHERE id > $1 ORDER BY id LIMIT $2) AS m
"""  # noqa: S608 - made of constants
ORPHANS_AMONG = f"""
SELECT m.id FROM lifecycle.messages AS m WHERE m.id = ANY ($1::uuid[]) AND {_IS_ORPHAN}
"""  # noqa: S608 - made of constants


class Compared(NamedTuple):
    """A range of ids: what `messages` holds, and what the log amounts to, at one moment."""

    messages: int
    """In the log."""
    missing: int
    """Those that had no row. They have one now."""
    strangers: int
    """Rows that the log does not know."""
    wrong: list[str]
    """Ids of messages whose row differs."""
    unplaced: bool
    """A message that is not final is in no hand-off, or may have lost it; it may be in `due`."""
    found: int
    """A sum of hashes of the rows: the same whatever their order, and wherever ranges end."""
    told: int
    """The same of what the log amounts to."""


async def end_of_range(c: Connection, after: str, facts: int) -> str:
    return str(await c.fetchval(END_OF_RANGE, after, facts))


async def no_loops(c: Connection) -> None:
    """Before the two below, in their transaction."""
    await c.execute(NO_LOOPS)


async def compare(c: Connection, after: str, last: str) -> Compared:
    (row,) = await c.fetch(COMPARE, after, last)
    wrong = sorted(str(each) for each in row["wrong"] or ())
    sums = int(row["found"]), int(row["told"])
    return Compared(row["messages"], row["missing"], row["strangers"], wrong, bool(row["unplaced"]), *sums)


async def repair(c: Connection, after: str, last: str, ids: Sequence[str]) -> None:
    """Messages of the range, which the caller has locked."""
    await c.execute(REPAIR, after, last, ids)


async def handoffs_before(c: Connection, place: tuple[datetime, UUID], limit: int) -> list[tuple[datetime, UUID]]:
    """The newest first, as places to go on from."""
    return [(row["created_at"], row["id"]) for row in await c.fetch(HANDOFFS_BEFORE, *place, limit)]


async def adoptable(c: Connection, handoffs: Sequence[UUID]) -> dict[str, str]:
    """Of their messages those that are in none, and the newest that they are in; in id order."""
    return {str(row["id"]): str(row["handoff_id"]) for row in await c.fetch(ADOPTABLE, handoffs)}


async def adopt(c: Connection, pairs: dict[str, str]) -> None:
    await c.execute(ADOPT, list(pairs), list(pairs.values()))


async def orphans_behind(c: Connection, after: str, rows: int) -> tuple[str | None, list[str]]:
    """Among the next rows: messages that nobody works on, and that do not wait. With the last id; None: no row."""
    (row,) = await c.fetch(ORPHANS_BEHIND, after, rows)
    return row["last"], row["ids"]


async def orphans_among(c: Connection, ids: Sequence[str]) -> list[str]:
    return [str(row["id"]) for row in await c.fetch(ORPHANS_AMONG, ids)]
