"""SQL of the log: facts appended and folded, messages read. Constants, and one typed function each; batches only."""

from collections.abc import Sequence
from typing import Any

from libs.message import Projection, Status
from libs.pg import Connection, Row
from libs.waits import TURN

# recording ------------------------------------------------------------------------------------------------------------

LOCK_MESSAGES = """
SELECT id, application_id, subscription_id, channel, lane, status, attempt, uncounted, waited_ms, handoff_id,
    (extract(EPOCH FROM created_at) * 1000)::bigint AS created_at_ms,
    (extract(EPOCH FROM created_at) * 1000)::bigint + ttl::bigint * 1000 + waited_ms AS deadline_ms,
    (extract(EPOCH FROM cancelled_at) * 1000)::bigint AS cancelled_at_ms,
    (extract(EPOCH FROM now()) * 1000)::bigint AS now_ms
FROM lifecycle.messages
WHERE id = ANY ($1::uuid[])
ORDER BY id
FOR NO KEY UPDATE
"""
APPEND = """
INSERT INTO lifecycle.message_events (message_id, kind, attempt, key, application_id, occurred_at, reason, data)
SELECT e.message_id, e.kind, e.attempt, e.key, e.application_id, to_timestamp(e.occurred_at_ms / 1000.0),
    e.reason, e.data
FROM unnest($1::uuid[], $2::text[], $3::smallint[], $4::text[], $5::uuid[], $6::bigint[], $7::text[], $8::jsonb[])
    AS e (message_id, kind, attempt, key, application_id, occurred_at_ms, reason, data)
ON CONFLICT DO NOTHING
"""
# The usual case in one statement: the first attempt of a message that nothing happened to was sent. Such a row's facts
# so far (created, held, routed …) leave the fold at pending, so that this one fact decides it. A row that is not so is
# left to the fold.
RECORD_FIRST_SENT = """
WITH given AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[], $5::jsonb[])
        AS g (message_id, application_id, key, occurred_at_ms, data)
), fresh AS (
    UPDATE lifecycle.messages AS m
    SET status = 'successful',
        sent_at = greatest(m.created_at, least(now(), to_timestamp(given.occurred_at_ms / 1000.0)))
    FROM given
    WHERE m.id = given.message_id AND m.id = ANY ($1::uuid[]) AND m.application_id = given.application_id
        AND m.status = 'pending' AND m.attempt = 1
    RETURNING m.id, m.application_id, m.sent_at, given.key, given.data
), appended AS (
    INSERT INTO lifecycle.message_events (message_id, kind, attempt, key, application_id, occurred_at, data)
    SELECT id, 'sent', 1, key, application_id, sent_at, data FROM fresh
    ON CONFLICT DO NOTHING
)
SELECT id FROM fresh
"""
# The fold of `libs.message`, set-based: the same total order, over all events of the messages named by $1.
FOLD = """
WITH facts AS MATERIALIZED (
    SELECT message_id, kind, attempt, key, occurred_at, reason
    FROM lifecycle.message_events
    WHERE message_id = ANY ($1::uuid[])
), sums AS (
    SELECT message_id,
        max(attempt) AS attempt,
        bool_or(kind = 'converted') AS converted,
        bool_or(kind = 'received') AS received,
        array_agg(attempt) FILTER (WHERE kind = 'sent') AS sent,
        array_agg(attempt) FILTER (
            WHERE kind = 'bounced' OR (kind = 'failed' AND reason = 'receipt_timeout')) AS withdrawn,
        max(attempt) FILTER (WHERE kind = 'cancelled') AS cancelled,
        bool_or(kind IN ('errored', 'failed', 'expired', 'superseded', 'bounced')) AS bad,
        min(occurred_at) FILTER (WHERE kind = 'sent') AS sent_at,
        min(occurred_at) FILTER (WHERE kind IN ('received', 'converted')) AS received_at,
        min(occurred_at) FILTER (WHERE kind = 'converted') AS converted_at,
        min(occurred_at) FILTER (WHERE kind = 'cancelled') AS cancelled_at
    FROM facts
    GROUP BY message_id
), verdicts AS (
    SELECT DISTINCT ON (f.message_id) f.message_id, f.kind, f.reason, f.occurred_at
    FROM facts AS f
    JOIN sums AS s ON s.message_id = f.message_id AND s.bad AND s.attempt = f.attempt
    WHERE f.kind IN ('errored', 'failed', 'expired', 'superseded', 'bounced')
    ORDER BY f.message_id, f.kind = 'errored', f.occurred_at, f.key, f.kind
), folded AS (
    SELECT s.*, v.kind AS verdict, v.reason AS verdict_reason, v.occurred_at AS verdict_at,
        CASE
            WHEN s.converted THEN 'converted'
            WHEN s.received THEN 'received'
            WHEN s.sent IS NOT NULL AND NOT s.sent <@ coalesce(s.withdrawn, '{}') THEN 'successful'
            WHEN s.cancelled >= s.attempt THEN 'cancelled'
            WHEN v.kind IS NULL THEN 'pending'
            WHEN v.kind = 'errored' THEN 'errored'
            ELSE 'failed'
        END AS status
    FROM sums AS s
    LEFT JOIN verdicts AS v ON v.message_id = s.message_id
)
"""
PROJECTED = """
    status,
    attempt,
    CASE WHEN status IN ('failed', 'errored') THEN verdict_reason END AS reason,
    sent_at,
    received_at,
    converted_at,
    CASE WHEN status = 'failed' THEN verdict_at END AS failed_at,
    cancelled_at
"""
UPDATE_PROJECTION = f"""
{FOLD}, projected AS (SELECT message_id, {PROJECTED} FROM folded)
UPDATE lifecycle.messages AS m
SET status = p.status, attempt = p.attempt, reason = p.reason, sent_at = p.sent_at, received_at = p.received_at,
    converted_at = p.converted_at, failed_at = p.failed_at, cancelled_at = p.cancelled_at
FROM projected AS p
WHERE m.id = p.message_id AND m.id = ANY ($1::uuid[])
RETURNING m.id, m.application_id, m.subscription_id, m.status, m.attempt,
    (extract(EPOCH FROM m.received_at) * 1000)::bigint AS received_at_ms,
    (extract(EPOCH FROM m.converted_at) * 1000)::bigint AS converted_at_ms,
    (extract(EPOCH FROM m.cancelled_at) * 1000)::bigint AS cancelled_at_ms
"""  # noqa: S608 - made of constants
SELECT_FOLD = f"""
{FOLD}
SELECT message_id, {PROJECTED} FROM folded
"""  # noqa: S608 - made of constants
INSERT_DUE = """
INSERT INTO lifecycle.due (message_id, application_id, lane, due_at, reason)
SELECT d.message_id, d.application_id, d.lane, now() + d.delay_ms * interval '1 millisecond', d.reason
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[], $5::text[])
    AS d (message_id, application_id, lane, delay_ms, reason)
ON CONFLICT (message_id) DO NOTHING
"""
# Since the message was accepted, or sent again by hand: what each attempt that began had waited for.
EARLIER_FAILURES = """
SELECT e.message_id, e.data ->> 'waited_for' AS waited_for, count(*) AS count
FROM lifecycle.message_events AS e
WHERE e.message_id = ANY ($1::uuid[]) AND e.kind = 'retried' AND e.attempt > coalesce((
    SELECT max(again.attempt) FROM lifecycle.message_events AS again
    WHERE again.message_id = e.message_id AND again.kind = 'retried' AND again.reason = 'resend'), 0)
GROUP BY 1, 2
"""
DELETE_DUE = "DELETE FROM lifecycle.due WHERE message_id = ANY ($1::uuid[])"


async def lock_messages(c: Connection, ids: list[str]) -> list[Row]:
    """Locks in id order. Ids that are not in the log are absent."""
    return await c.fetch(LOCK_MESSAGES, ids)


async def append(c: Connection, rows: Sequence[tuple[Any, ...]]) -> int:
    """Rows of (message id, kind, attempt, key, application id, occurred_at ms, reason, data). Returns how many new."""
    tag = await c.execute(APPEND, *zip(*rows, strict=True))
    return int(tag.rsplit(" ", 1)[1])


async def record_first_sent(c: Connection, rows: Sequence[tuple[object, ...]]) -> set[str]:
    """Rows of (message id, application id, key, occurred_at ms, data), in id order. Returns the ids recorded."""
    return {str(row["id"]) for row in await c.fetch(RECORD_FIRST_SENT, *zip(*rows, strict=True))}


async def update_projection(c: Connection, ids: list[str]) -> list[Row]:
    return await c.fetch(UPDATE_PROJECTION, ids)


async def select_fold(c: Connection, ids: list[str]) -> dict[str, Projection]:
    return {str(row["message_id"]): projection_of(row) for row in await c.fetch(SELECT_FOLD, ids)}


def projection_of(row: Row) -> Projection:
    status: Status = row["status"]
    times = {
        f"{name}_ms": ms(row[name]) for name in ("sent_at", "received_at", "converted_at", "failed_at", "cancelled_at")
    }
    return Projection(status=status, attempt=row["attempt"], reason=row["reason"], **times)


def ms(moment: Any) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)


async def insert_due(c: Connection, rows: Sequence[tuple[str, str, str, int, str]]) -> None:
    """Rows of (message id, application id, lane, delay ms, reason)."""
    await c.execute(INSERT_DUE, *zip(*rows, strict=True))


async def earlier_failures(c: Connection, ids: Sequence[str]) -> dict[tuple[str, str], int]:
    """How often each message waited, by message id and the reason of the row in `due`."""
    return {(str(row["message_id"]), row["waited_for"]): row["count"] for row in await c.fetch(EARLIER_FAILURES, ids)}


async def delete_due(c: Connection, ids: list[str]) -> None:
    await c.execute(DELETE_DUE, ids)


# reading --------------------------------------------------------------------------------------------------------------

# A hand-off that nobody has published waits for its turn, and its open messages with it.
WAITS_FOR = f"""coalesce(due.reason, (
    SELECT '{TURN}' FROM lifecycle.handoffs AS h
    WHERE h.id = m.handoff_id AND NOT h.published AND m.status IN ('pending', 'errored')))"""  # noqa: S608 - constants
SELECT_MESSAGE = f"""
SELECT m.*, due.due_at, {WAITS_FOR} AS due_reason
FROM lifecycle.messages AS m
LEFT JOIN lifecycle.due ON due.message_id = m.id
WHERE m.id = $1 AND m.application_id = $2
"""  # noqa: S608 - made of constants
SELECT_EVENTS = """
SELECT kind, attempt, key, occurred_at, reason, data, sealed
FROM lifecycle.message_events
WHERE message_id = $1 AND application_id = $2
ORDER BY epoch, txid, position
"""
# Needs no call: final, waiting for its time, or overtaken by a later attempt.
SETTLED = """
SELECT m.id
FROM lifecycle.messages AS m
JOIN unnest($1::uuid[], $2::smallint[]) AS asked (id, attempt) ON asked.id = m.id
WHERE m.status NOT IN ('pending', 'errored')
    OR m.attempt > asked.attempt
    OR EXISTS (SELECT FROM lifecycle.due AS d WHERE d.message_id = m.id)
"""


async def message(c: Connection, message_id: str, application_id: str) -> Row | None:
    return await c.fetchrow(SELECT_MESSAGE, message_id, application_id)


async def events(c: Connection, message_id: str, application_id: str) -> list[Row]:
    return await c.fetch(SELECT_EVENTS, message_id, application_id)


async def settled(c: Connection, attempts: dict[str, int]) -> list[str]:
    rows = await c.fetch(SETTLED, list(attempts), list(attempts.values()))
    return [str(row["id"]) for row in rows]


# leadership -----------------------------------------------------------------------------------------------------------

TRY_LOCK = "SELECT pg_try_advisory_lock(hashtext('automata.lifecycle'), hashtext($1))"
SET_EPOCH = """
SELECT set_config('automata.epoch', (SELECT max(epoch)::text FROM lifecycle.epochs), false),
    set_config('enable_seqscan', 'off', false)
"""
"""Run on each new connection: appended rows carry the epoch. And a plan is kept, however empty the tables were when it
was made (a week's, on its first morning): none may read a whole table for want of rows in it."""
