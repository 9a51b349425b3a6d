"""SQL about what is sealed in the log: under which key, added to a receipt, exported to its person, and forgotten."""

from collections.abc import Sequence
from typing import Any

from libs.pg import Connection, Row

from .queries import WAITS_FOR

# keys and receipts ----------------------------------------------------------------------------------------------------

KEYS_OF_MESSAGES = """
SELECT e.application_id::text AS application_id, e.message_id::text AS message_id,
    substring(e.sealed FROM 1 FOR 16) AS key_id
FROM lifecycle.message_events AS e
JOIN unnest($1::uuid[], $2::uuid[]) AS asked (application_id, message_id)
    ON asked.message_id = e.message_id AND asked.application_id = e.application_id
WHERE e.message_id = ANY ($2::uuid[]) AND e.kind = 'created' AND e.attempt = 1 AND e.key = ''
"""
APPEND_SEALED = """
INSERT INTO lifecycle.message_events
    (message_id, kind, attempt, key, application_id, occurred_at, reason, data, sealed)
SELECT e.message_id, e.kind, e.attempt, e.key, e.application_id, to_timestamp(e.occurred_at_ms / 1000.0),
    e.reason, e.data, e.sealed
FROM unnest(
    $1::uuid[], $2::text[], $3::smallint[], $4::text[], $5::uuid[], $6::bigint[], $7::text[], $8::jsonb[], $9::bytea[]
) AS e (message_id, kind, attempt, key, application_id, occurred_at_ms, reason, data, sealed)
ON CONFLICT DO NOTHING
"""

MessageName = tuple[str, str]
"""(application id, message id)."""


async def keys_of_messages(c: Connection, asked: Sequence[MessageName]) -> dict[MessageName, bytes]:
    """Ids of the data keys under which contents are sealed. Messages that are not in the log are absent."""
    rows = await c.fetch(KEYS_OF_MESSAGES, *zip(*asked, strict=True))
    return {(row["application_id"], row["message_id"]): row["key_id"] for row in rows}


async def append_sealed(c: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Rows as `queries.append` takes them, each with its ciphertext."""
    await c.execute(APPEND_SEALED, *zip(*rows, strict=True))


# forgetting -----------------------------------------------------------------------------------------------------------

# What waits for a person: sent to the user, or to one of the subscriptions while nobody was known, or nobody else.
WAITING = """
SELECT due.message_id::text AS message_id
FROM (
    SELECT m.id FROM lifecycle.messages AS m WHERE m.user_id = $2 AND m.application_id = $1
    UNION
    SELECT m.id FROM lifecycle.messages AS m WHERE m.subscription_id = ANY ($3::uuid[]) AND m.application_id = $1
) AS found
JOIN lifecycle.due ON due.message_id = found.id
JOIN lifecycle.message_events AS e
    ON e.message_id = found.id AND e.kind = 'created' AND e.attempt = 1 AND e.key = ''
WHERE e.application_id = $1 AND substring(e.sealed FROM 1 FOR 16) = ANY ($4::bytea[])
LIMIT $5
"""
FORGET_ANSWERS = """
DELETE FROM lifecycle.idempotency_keys
WHERE application_id = $1 AND subjects && $2::uuid[] AND subjects <> '{}'
"""


async def waiting(
    c: Connection,
    application_id: str,
    user_id: str,
    subscription_ids: Sequence[str],
    key_ids: Sequence[bytes],
    limit: int,
) -> list[str]:
    """Messages in `due` that are sealed under one of the keys."""
    rows = await c.fetch(WAITING, application_id, user_id, subscription_ids, key_ids, limit)
    return [row["message_id"] for row in rows]


async def forget_answers(c: Connection, application_id: str, subjects: Sequence[str]) -> None:
    await c.execute(FORGET_ANSWERS, application_id, subjects)


# exporting ------------------------------------------------------------------------------------------------------------

# Each branch is one ordered look into an index, so that a page costs the same wherever in the history it lies.
HELD_MESSAGES = """
SELECT found.id::text AS id FROM (
    (SELECT m.id FROM lifecycle.messages AS m
    WHERE m.user_id = $2 AND m.application_id = $1 AND m.id > $4 ORDER BY m.id LIMIT $5)
    UNION
    (SELECT m.id FROM unnest($3::uuid[]) AS theirs (id)
    CROSS JOIN LATERAL (
        SELECT messages.id FROM lifecycle.messages
        WHERE messages.subscription_id = theirs.id AND messages.application_id = $1 AND messages.user_id IS NULL
            AND messages.id > $4
        ORDER BY messages.id LIMIT $5
    ) AS m ORDER BY m.id LIMIT $5)
) AS found
ORDER BY found.id LIMIT $5
"""
SELECT_MESSAGES = f"""
SELECT m.*, due.due_at, {WAITS_FOR} AS due_reason
FROM lifecycle.messages AS m
LEFT JOIN lifecycle.due ON due.message_id = m.id
WHERE m.id = ANY ($2::uuid[]) AND m.application_id = $1
ORDER BY m.id
"""  # noqa: S608 - made of constants
SELECT_EVENTS_OF = """
SELECT message_id, kind, attempt, key, occurred_at, reason, data, sealed
FROM lifecycle.message_events
WHERE message_id = ANY ($2::uuid[]) AND application_id = $1
ORDER BY message_id, epoch, txid, position
"""


async def held_messages(
    c: Connection, application_id: str, user_id: str, subscription_ids: Sequence[str], after: str, limit: int
) -> list[str]:
    """Ids of messages to the user, and of those to the subscriptions while nobody was known; oldest first."""
    rows = await c.fetch(HELD_MESSAGES, application_id, user_id, subscription_ids, after, limit)
    return [row["id"] for row in rows]


async def messages(c: Connection, application_id: str, ids: Sequence[str]) -> list[Row]:
    """As `queries.message` gives one."""
    return await c.fetch(SELECT_MESSAGES, application_id, ids)


async def events_of(c: Connection, application_id: str, ids: Sequence[str]) -> list[Row]:
    """As `queries.events` gives those of one, with their message ids."""
    return await c.fetch(SELECT_EVENTS_OF, application_id, ids)
