"""Postgres: the two batch statements of a message's life, in a scratch database with rows of the real shape."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
from uuid_utils.compat import uuid7

from tests.bench.floor import PAYLOAD, Floor, measure
from tests.bench.scratch import scratch_database

if TYPE_CHECKING:
    from tests.bench.system import Connection

ROWS = 500
CREATED = "Postgres COPY of created + projection, 500 rows"
OUTCOME = "Postgres outcome + projection, 500 rows"

_TABLES = """
CREATE TABLE events (
    message_id uuid NOT NULL, kind text COLLATE "C" NOT NULL, attempt smallint NOT NULL, key text COLLATE "C" NOT NULL,
    occurred_at timestamptz NOT NULL DEFAULT now(), application_id uuid NOT NULL, reason text, data jsonb, sealed bytea,
    epoch smallint NOT NULL DEFAULT 1, txid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    position bigint GENERATED ALWAYS AS IDENTITY (CACHE 100), PRIMARY KEY (message_id, kind, attempt, key));
CREATE INDEX events_tail ON events (epoch, txid, position);
CREATE TABLE messages (
    id uuid PRIMARY KEY, application_id uuid NOT NULL, subscription_id uuid NOT NULL, channel text NOT NULL,
    lane text NOT NULL, category text NOT NULL, status text NOT NULL DEFAULT 'pending',
    attempt smallint NOT NULL DEFAULT 1, ttl integer NOT NULL,
    handoff_id uuid NOT NULL, reason text, created_at timestamptz NOT NULL DEFAULT now(),
    sent_at timestamptz, failed_at timestamptz) WITH (fillfactor = 50);
"""
_RECORD = """
WITH fact AS (
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::timestamptz[]) AS t(message_id, key, occurred_at)
), appended AS (
    INSERT INTO events (message_id, kind, attempt, key, occurred_at, application_id)
    SELECT message_id, 'sent', 1, key, occurred_at, $4 FROM fact ON CONFLICT DO NOTHING
    RETURNING message_id, occurred_at
)
UPDATE messages SET status = 'successful', sent_at = appended.occurred_at FROM appended WHERE id = appended.message_id
"""
_EVENT_COLUMNS = ("message_id", "kind", "attempt", "key", "application_id", "sealed")
_MESSAGE_COLUMNS = ("id", "application_id", "subscription_id", "channel", "lane", "category", "ttl", "handoff_id")


async def run(dsn: str) -> AsyncIterator[Floor]:
    """One connection, one transaction a batch, fsync as the server is set."""
    async with scratch_database(dsn, "floor") as scratch:
        connection = await asyncpg.connect(scratch, timeout=10)
        try:
            await connection.execute(_TABLES)
            waiting: list[list[UUID]] = []
            yield await measure(CREATED, _accepting(connection, waiting), "62,000/s, 8 µs")
            limit = len(waiting) - 1
            yield await measure(OUTCOME, _recording(connection, waiting), "40,000/s, 4 µs", limit=limit)
        finally:
            await connection.close()


def _accepting(connection: "Connection", waiting: list[list[UUID]]) -> Callable[[], Awaitable[int]]:
    application, sealed = uuid7(), os.urandom(PAYLOAD)

    async def once() -> int:
        ids = [uuid7() for _ in range(ROWS)]
        handoff = uuid7()
        events = [(identifier, "created", 1, "", application, sealed) for identifier in ids]
        rows = [(identifier, application, handoff, "apns", "bulk", "info", 86_400, handoff) for identifier in ids]
        async with connection.transaction():
            await connection.copy_records_to_table("events", records=events, columns=_EVENT_COLUMNS)
            await connection.copy_records_to_table("messages", records=rows, columns=_MESSAGE_COLUMNS)
        waiting.append(ids)
        return ROWS

    return once


def _recording(connection: "Connection", waiting: list[list[UUID]]) -> Callable[[], Awaitable[int]]:
    """Each batch that `_accepting` made, once."""
    application, batches = uuid7(), iter(waiting)

    async def once() -> int:
        ids = next(batches)
        now = datetime.now(UTC)
        await connection.execute(_RECORD, ids, [str(identifier) for identifier in ids], [now] * ROWS, application)
        return ROWS

    return once
