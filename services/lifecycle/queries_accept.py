"""SQL of acceptance: the log, the projection and the idempotency keys of what comes in."""

from collections.abc import Sequence
from typing import Any

from libs.pg import Connection, Row

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
