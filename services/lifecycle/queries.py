"""All SQL of the lifecycle service: constants, and one typed function each. Batches only."""

from collections.abc import Sequence
from typing import Any

from libs.message import Projection, Status
from libs.pg import Connection, Row
from libs.waits import TURN

# acceptance -----------------------------------------------------------------------------------------------------------

EVENT_COLUMNS = ("message_id", "kind", "attempt", "key", "application_id", "data", "sealed")
MESSAGE_COLUMNS = (
    "id",
    "application_id",
    "subscription_id",
    "channel",
    "lane",
    "category",
    "ttl",
    "handoff_id",
    "collapse_hash",
    "user_id",
    "template_id",
    "template_version",
)

NOW_MS = "SELECT (extract(EPOCH FROM now()) * 1000)::bigint"

INSERT_IDEMPOTENCY_KEYS = """
INSERT INTO lifecycle.idempotency_keys (application_id, key, fingerprint, answer, subjects)
SELECT k.application_id, k.key, k.fingerprint, k.answer, string_to_array(k.subjects, ',')::uuid[]
FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::bytea[], $5::text[])
    AS k (application_id, key, fingerprint, answer, subjects)
ORDER BY 1, 2
ON CONFLICT (application_id, key) DO UPDATE
    SET fingerprint = excluded.fingerprint, answer = excluded.answer, subjects = excluded.subjects, created_at = now()
    WHERE idempotency_keys.created_at < now() - interval '24 hours'
RETURNING application_id, key
"""
SELECT_IDEMPOTENCY_KEYS = """
SELECT application_id, key, fingerprint, answer, (extract(EPOCH FROM created_at) * 1000)::bigint AS created_at_ms
FROM lifecycle.idempotency_keys
JOIN unnest($1::uuid[], $2::text[]) AS asked (application_id, key) USING (application_id, key)
WHERE created_at >= now() - interval '24 hours'
"""
# A commit that was given up while it waited for the standby stands on the primary, and can be read. Whoever writes to
# the WAL after it (https://www.postgresql.org/docs/18/functions-admin.html, Table 9.98) waits for both.
WAIT_FOR_STANDBY = "SELECT pg_logical_emit_message(true, 'automata', '')"
DELETE_OLD_IDEMPOTENCY_KEYS = """
DELETE FROM lifecycle.idempotency_keys WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM lifecycle.idempotency_keys WHERE created_at < now() - interval '24 hours' LIMIT 2000))
"""


async def copy_created(c: Connection, events: Sequence[tuple[Any, ...]], messages: Sequence[tuple[Any, ...]]) -> None:
    await c.copy_records_to_table("message_events", schema_name="lifecycle", records=events, columns=EVENT_COLUMNS)
    await c.copy_records_to_table("messages", schema_name="lifecycle", records=messages, columns=MESSAGE_COLUMNS)


async def now_ms(c: Connection) -> int:
    """Postgres' clock at the start of this transaction, Unix milliseconds."""
    return int(await c.fetchval(NOW_MS))


Key = tuple[str, str]
"""(application id, Idempotency-Key)."""


async def claim_idempotency_keys(c: Connection, rows: Sequence[tuple[str, str, bytes, bytes, list[str]]]) -> set[Key]:
    """Rows of (application id, key, fingerprint, answer, subjects), each key once. Returns those not used before.

    Waits for a request with the same key that is just being committed.
    """
    applications, keys, fingerprints, answers, subjects = zip(*rows, strict=True)
    of_each = [",".join(ids) for ids in subjects]
    claimed = await c.fetch(INSERT_IDEMPOTENCY_KEYS, applications, keys, fingerprints, answers, of_each)
    return {(str(row["application_id"]), row["key"]) for row in claimed}


async def idempotency_keys(c: Connection, keys: Sequence[Key]) -> dict[Key, Row]:
    """What is answered from them is surely kept (R1), as soon as the caller's transaction is committed."""
    found = await c.fetch(SELECT_IDEMPOTENCY_KEYS, *zip(*keys, strict=True))
    if found:
        await c.execute(WAIT_FOR_STANDBY)
    return {(str(row["application_id"]), row["key"]): row for row in found}


async def delete_old_idempotency_keys(c: Connection) -> None:
    await c.execute(DELETE_OLD_IDEMPOTENCY_KEYS)


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


# handing off again ----------------------------------------------------------------------------------------------------

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


# tailing --------------------------------------------------------------------------------------------------------------

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


# leadership -----------------------------------------------------------------------------------------------------------

TRY_LOCK = "SELECT pg_try_advisory_lock(hashtext('automata.lifecycle'), hashtext($1))"
SET_EPOCH = """
SELECT set_config('automata.epoch', (SELECT max(epoch)::text FROM lifecycle.epochs), false),
    set_config('enable_seqscan', 'off', false)
"""
"""Run on each new connection: appended rows carry the epoch. And a plan is kept, however empty the tables were when it
was made (a week's, on its first morning): none may read a whole table for want of rows in it."""
