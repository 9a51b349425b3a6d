"""SQL of hand-offs: recorded, published at once or later (R5, R11), forgotten when their messages are through."""

from collections.abc import Sequence
from typing import NamedTuple

from libs.pg import Connection, Row

# Of `p`, an application and lane: what is published and not yet forgotten. Both columns are compared as one, so that
# no index of the lane alone serves.
_PUBLISHED = """(
    SELECT coalesce(sum(o.size), 0) FROM lifecycle.handoffs AS o
    WHERE (o.application_id, o.lane) >= (p.application_id, p.lane)
        AND (o.application_id, o.lane) <= (p.application_id, p.lane) AND o.published)"""


def _pressed(window: str) -> str:
    """Of `p`: what a rate or a slow provider sent back to `due`, counted up to `window`."""
    return f"""(
    SELECT count(*) FROM (
        SELECT FROM lifecycle.due AS d
        WHERE d.application_id = p.application_id AND d.lane = p.lane AND d.reason IN ('rate_limit', 'provider_slow')
        LIMIT {window}) AS pressed)"""  # noqa: S608 - made of constants


# What does not fit the window of its application and lane waits, and so does all that comes after it; but what went
# before and comes back goes before what never went. Nothing is counted where others wait.
INSERT_HANDOFFS = f"""
WITH given AS (
    SELECT h.*, sum(h.size) OVER (PARTITION BY h.application_id, h.lane ORDER BY h.place) - h.size AS before
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::smallint[], $6::smallint[], $7::bigint[])
        WITH ORDINALITY AS h (id, application_id, lane, ids, repairs, size, expires_at_ms, place)
), crowded AS MATERIALIZED (
    SELECT p.application_id, p.lane, CASE
        WHEN NOT $9::boolean AND (
            SELECT true FROM lifecycle.handoffs AS w
            WHERE w.application_id = p.application_id AND w.lane = p.lane AND NOT w.published LIMIT 1) THEN $8
        ELSE {_PUBLISHED} + {_pressed("$8")}
    END AS unfinished
    FROM (SELECT DISTINCT application_id, lane FROM given) AS p
)
INSERT INTO lifecycle.handoffs (id, application_id, lane, message_ids, repairs, size, expires_at, published)
SELECT g.id, g.application_id, g.lane, string_to_array(g.ids, ',')::uuid[], g.repairs, g.size,
    to_timestamp(g.expires_at_ms / 1000.0), c.unfinished + g.before < $8
FROM given AS g
JOIN crowded AS c ON c.application_id = g.application_id AND c.lane = g.lane
RETURNING id, published
"""  # noqa: S608 - made of constants
# One step of the index for each application that waits in the lane, however much. Those of $3 count as full.
WAITING = f"""
WITH RECURSIVE waiting AS (
    (SELECT application_id FROM lifecycle.handoffs
    WHERE lane = $1 AND NOT published ORDER BY application_id LIMIT 1)
    UNION ALL
    SELECT following.application_id
    FROM waiting CROSS JOIN LATERAL (
        SELECT h.application_id FROM lifecycle.handoffs AS h
        WHERE h.lane = $1 AND NOT h.published AND h.application_id > waiting.application_id
        ORDER BY h.application_id LIMIT 1) AS following
)
SELECT p.application_id, due.pressed, greatest(0, $2 - due.pressed - {_PUBLISHED}) AS room
FROM (SELECT application_id, $1::text AS lane FROM waiting) AS p
CROSS JOIN LATERAL (
    SELECT CASE WHEN p.application_id = ANY ($3::uuid[]) THEN $2 ELSE {_pressed("$2")} END AS pressed
    OFFSET 0) AS due
"""  # noqa: S608 - made of constants
# The oldest first, while there is room; what is just being cancelled is left to the next round, so that nobody waits in
# a circle. Their age counts from now on: the reconciler looks for what was published.
PUBLISH = """
UPDATE lifecycle.handoffs AS h SET published = true, created_at = now()
FROM unnest($2::uuid[], $3::bigint[]) AS r (application_id, room)
CROSS JOIN LATERAL (
    SELECT picked.id FROM (
        SELECT w.id, sum(w.size) OVER (ORDER BY w.id) - w.size AS before
        FROM (
            SELECT id, size FROM lifecycle.handoffs
            WHERE lane = $1 AND application_id = r.application_id AND NOT published
            ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED) AS w) AS picked
    WHERE picked.before < r.room) AS next
WHERE h.id = next.id
RETURNING h.id, h.application_id, h.repairs
"""
# What an envelope is made of, from the log: for hand-offs that waited, without what ended meanwhile.
CONTENTS = """
SELECT h.id AS handoff_id, m.id, m.subscription_id, m.category, m.attempt, m.sealed, m.deadline_ms
FROM lifecycle.handoffs AS h
CROSS JOIN LATERAL unnest(h.message_ids) WITH ORDINALITY AS member (id, place)
CROSS JOIN LATERAL (
    SELECT messages.id, messages.subscription_id, messages.category, messages.attempt, e.sealed,
        (extract(EPOCH FROM messages.created_at) * 1000)::bigint
            + messages.ttl::bigint * 1000 + messages.waited_ms AS deadline_ms
    FROM lifecycle.messages
    JOIN lifecycle.message_events AS e
        ON e.message_id = messages.id AND e.kind = 'created' AND e.attempt = 1 AND e.key = ''
    WHERE messages.id = member.id AND messages.handoff_id = h.id AND messages.status IN ('pending', 'errored')
    OFFSET 0) AS m
WHERE h.id = ANY ($1::uuid[])
ORDER BY h.id, member.place
"""


# Of `looked_at`, hand-offs, and `member`: it is neither final, nor in due, nor handed off again; nor will be once more.
_STILL_OPEN = """
    CROSS JOIN LATERAL (
        SELECT FROM lifecycle.messages AS m
        WHERE m.id = member.id AND m.handoff_id = looked_at.id AND m.status IN ('pending', 'errored')
            AND NOT EXISTS (SELECT FROM lifecycle.due AS d WHERE d.message_id = m.id)
        OFFSET 0) AS still_open"""
# Each look goes on at the member ($4: hand-off, $5: place) that was the first open one the last time; the last look is
# at all of them, as a rebuild may have opened one again.
FORGET_FINISHED = f"""
WITH looked_at AS MATERIALIZED (
    SELECT h.id, h.message_ids, coalesce(known.place, 1) AS place
    FROM (
        SELECT id, message_ids FROM lifecycle.handoffs
        WHERE lane = $1 AND published AND id > $2 ORDER BY id LIMIT $3) AS h
    LEFT JOIN unnest($4::uuid[], $5::integer[]) AS known (id, place) ON known.id = h.id
), seen AS MATERIALIZED (
    SELECT id, message_ids, (
        SELECT (looked_at.place + member.further - 1)::integer
        FROM unnest(looked_at.message_ids[looked_at.place:]) WITH ORDINALITY AS member (id, further) {_STILL_OPEN}
        LIMIT 1) AS place
    FROM looked_at
), forgotten AS (
    DELETE FROM lifecycle.handoffs AS h USING seen AS looked_at
    WHERE h.id = looked_at.id AND looked_at.place IS NULL
        AND NOT EXISTS (SELECT FROM unnest(looked_at.message_ids) AS member (id) {_STILL_OPEN})
)
SELECT id::text, place FROM seen ORDER BY id
"""  # noqa: S608 - made of constants
# Of old ones: as many as are open still.
RECOUNT = f"""
WITH looked_at AS MATERIALIZED (
    SELECT id, message_ids FROM lifecycle.handoffs
    WHERE lane = $1 AND published AND id > $2 AND created_at < now() - $3 * interval '1 second'
    ORDER BY id LIMIT $4
), changed AS (
    UPDATE lifecycle.handoffs AS h SET size = counted.number
    FROM (
        SELECT id, (SELECT count(*) FROM unnest(looked_at.message_ids) AS member (id) {_STILL_OPEN}) AS number
        FROM looked_at) AS counted
    WHERE h.id = counted.id AND h.size > counted.number
)
SELECT max(id::text) AS last, count(*) AS handoffs FROM looked_at
"""  # noqa: S608 - made of constants
# Tables of which the planner believes that they hold far less than they do, among those that this role may analyze.
GROWN = """
SELECT format('%I.%I', s.schemaname, s.relname) AS name
FROM pg_stat_user_tables AS s JOIN pg_class AS c ON c.oid = s.relid
WHERE s.schemaname = 'lifecycle' AND s.n_live_tup > 1000 AND s.n_live_tup > 4 * c.reltuples
    AND has_table_privilege(c.oid, 'MAINTAIN')
"""
NOT_PUBLISHED = "UPDATE lifecycle.handoffs SET repairs = repairs - 1 WHERE id = $1 AND repairs > 0"
# Which of these messages wait in a hand-off that nobody has published, and that nobody can publish meanwhile.
LOCK_UNPUBLISHED = """
SELECT id FROM lifecycle.handoffs WHERE id = ANY ($1::uuid[]) AND NOT published ORDER BY id FOR UPDATE
"""


class NewHandoff(NamedTuple):
    id: str
    application_id: str
    lane: str
    message_ids: list[str]
    repairs: int
    expires_at_ms: int
    """When the first of its messages expires."""


class Room(NamedTuple):
    """What may be published for an application that waits."""

    messages: int
    pressed: int
    """Unfinished messages of it that a rate or a slow provider sent back."""


async def insert_handoffs(
    c: Connection, handoffs: Sequence[NewHandoff], window: int, *, again: bool = False
) -> set[str]:
    """Returns the ids of those that may be published at once; the others wait. `again`: their messages went before."""
    ids, applications, lanes, members, repairs, expiries = zip(*handoffs, strict=True)
    texts, sizes = [",".join(each) for each in members], [len(each) for each in members]
    rows = await c.fetch(INSERT_HANDOFFS, ids, applications, lanes, texts, repairs, sizes, expiries, window, again)
    return {str(row["id"]) for row in rows if row["published"]}


async def waiting(c: Connection, lane: str, window: int, full: Sequence[str] = ()) -> dict[str, Room]:
    """By application id. Those that are known to be `full` are not counted."""
    rows = await c.fetch(WAITING, lane, window, full)
    return {str(row["application_id"]): Room(int(row["room"]), row["pressed"]) for row in rows}


async def publish(c: Connection, lane: str, rooms: dict[str, int]) -> list[Row]:
    """The hand-offs (id, application id, repairs) that are to be published after the commit."""
    return await c.fetch(PUBLISH, lane, list(rooms), list(rooms.values()))


async def not_published(c: Connection, handoff_id: str) -> None:
    """What NATS never stored was not lost by those who work on it: that repair does not count."""
    await c.execute(NOT_PUBLISHED, handoff_id)


async def contents(c: Connection, handoff_ids: Sequence[str]) -> list[Row]:
    return await c.fetch(CONTENTS, list(handoff_ids))


async def forget_finished(
    c: Connection, lane: str, after: str, limit: int, known: dict[str, int]
) -> dict[str, int | None]:
    """Looks at `limit` published hand-offs behind the id `after`. Returns by their ids the place of the first message
    that is open, None where none is; `known`: what the last look returned."""
    rows = await c.fetch(FORGET_FINISHED, lane, after, limit, list(known), list(known.values()))
    return {row["id"]: row["place"] for row in rows}


async def recount(c: Connection, lane: str, after: str, age: float, limit: int) -> str | None:
    """Of `limit` published hand-offs behind the id `after`, older than `age` seconds, only what is open counts from now
    on. Returns where to go on; None: those were the last."""
    looked_at = await c.fetchrow(RECOUNT, lane, after, age, limit)
    return None if looked_at is None or looked_at["handoffs"] < limit else str(looked_at["last"])


async def grown(c: Connection) -> list[str]:
    return [row["name"] for row in await c.fetch(GROWN)]


async def lock_unpublished(c: Connection, handoff_ids: Sequence[str]) -> set[str]:
    return {str(row["id"]) for row in await c.fetch(LOCK_UNPUBLISHED, list(handoff_ids))}
