"""After a restore: a new epoch, what is known of the time since the backup, and an end to what cannot be known.

Runs on a database that was restored from a backup, before any service is started on it. A message that was unfinished
then may have been sent since. Where the old stream EVENTS tells what became of it, the log is told too; else it is
failed with reason `restored_unknown`, and only a person may send it again.
"""

from collections.abc import AsyncIterator
from datetime import datetime

import msgspec

from libs.config import Database
from libs.events import EventBatch, PublishedEvent
from libs.pg import Connection, Pool, connect_pool, single_connection

from . import queries, queries_handoff, queries_tail

REASON = "restored_unknown"
KEY = "restored"
RELAY = "relay"
"""The relay's cursor."""
CLOCK_DOUBT = 300
"""Seconds that the clocks of the old and the new installation may differ."""
REWIND = 2_000
"""Events by which the relay goes back beyond the oldest unread one: a page of it is grouped by application."""
_PAGE = 2_000
_NIL = "00000000-0000-0000-0000-000000000000"

RAISE_EPOCH = """
INSERT INTO lifecycle.epochs (epoch) SELECT greatest(max(epoch), $1::smallint) + 1 FROM lifecycle.epochs
RETURNING epoch
"""
REWIND_RELAY = """
UPDATE lifecycle.cursors AS c
SET epoch = coalesce(back.epoch, 0), txid = coalesce(back.txid, '0'), position = coalesce(back.position, 0)
FROM (VALUES (1)) AS one LEFT JOIN LATERAL (
    SELECT epoch, txid, position FROM lifecycle.message_events
    WHERE (epoch, txid, position) < ($2::smallint, $3::text::xid8, $4::bigint)
    ORDER BY epoch DESC, txid DESC, position DESC OFFSET $5 LIMIT 1
) AS back ON true
WHERE c.name = $1 AND (c.epoch, c.txid, c.position) >= ($2::smallint, $3::text::xid8, $4::bigint)
"""
# Only about messages that are in this log, of the application that the stream said.
APPEND_KNOWN = """
INSERT INTO lifecycle.message_events (message_id, kind, attempt, key, application_id, occurred_at, reason, data)
SELECT e.message_id, e.kind, e.attempt, e.key, e.application_id, to_timestamp(e.occurred_at_ms / 1000.0),
    e.reason, e.data
FROM unnest($1::uuid[], $2::text[], $3::smallint[], $4::text[], $5::uuid[], $6::bigint[], $7::text[], $8::jsonb[])
    AS e (message_id, kind, attempt, key, application_id, occurred_at_ms, reason, data)
JOIN lifecycle.messages AS m ON m.id = e.message_id AND m.application_id = e.application_id
ON CONFLICT DO NOTHING
RETURNING message_id, kind, data
"""
COUNT_MISSING = """
SELECT count(*) FROM unnest($1::uuid[]) AS made (id) WHERE NOT EXISTS (
    SELECT FROM lifecycle.messages AS m WHERE m.id = made.id)
"""
REMEMBER_TOUCHED = """
INSERT INTO pg_temp.touched SELECT * FROM unnest($1::uuid[]) ON CONFLICT DO NOTHING
"""
# May go on by itself: waits for a time that has not come by any clock, so that nobody took it from `due`; nothing
# happened to it since the backup; and neither a stop nor a breaker holds it, which may have let it go.
FORGET_DUE = """
DELETE FROM lifecycle.due AS d
WHERE NOT $1::boolean OR d.due_at < now() + $2 * interval '1 second' OR d.reason LIKE 'emergency\\_stop:%'
    OR d.reason LIKE 'breaker:%'
    OR EXISTS (SELECT FROM pg_temp.touched AS t WHERE t.id = d.message_id)
    OR NOT EXISTS (SELECT FROM lifecycle.messages AS m
        WHERE m.id = d.message_id AND m.status IN ('pending', 'errored'))
"""
FORGET_HANDOFFS = "DELETE FROM lifecycle.handoffs"
FORGET_SEARCHES = "DELETE FROM lifecycle.reconciliations"
UNFINISHED = """
SELECT m.id, m.application_id, greatest(m.attempt, 1) AS attempt, (extract(EPOCH FROM now()) * 1000)::bigint AS now_ms
FROM lifecycle.messages AS m
WHERE m.id > $1 AND m.status IN ('pending', 'errored')
    AND NOT EXISTS (SELECT FROM lifecycle.due AS d WHERE d.message_id = m.id)
ORDER BY m.id LIMIT $2
"""


class Settled(msgspec.Struct):
    """What a restore came to."""

    epoch: int = 0
    learned: int = 0
    """Facts since the backup that the old event stream told."""
    missing: int = 0
    """Messages accepted since the backup: they are not in it."""
    unknown: int = 0
    """Messages failed because nobody can know whether they were sent."""
    waiting: int = 0
    """Messages that go on at their time."""


async def settle(
    dsn: str,
    taken_at: datetime,
    *,
    epoch: int,
    readers_at: queries_tail.Cursor | None,
    history: AsyncIterator[EventBatch] | None,
    keep_waiting: bool,
) -> Settled:
    """`epoch`: the highest that was ever used; `readers_at`: where the slowest reader of EVENTS was at the backup.

    `keep_waiting`: messages whose time is still to come go on. `dsn` is the owner's, who may raise the epoch.
    """
    settled = Settled()
    async with single_connection(dsn) as c:
        settled.epoch = int(await c.fetchval(RAISE_EPOCH, epoch))
        if readers_at is not None:
            await c.execute(REWIND_RELAY, RELAY, *readers_at, REWIND)
    database = Database(url=dsn, pool=1, statement_timeout=3600)
    pool = await connect_pool(database, prepare=queries.SET_EPOCH)
    try:
        async with pool.connection() as c:
            await c.execute("CREATE TEMPORARY TABLE touched (id uuid PRIMARY KEY)")
        if history is not None:
            async for batch in history:
                await _learn(pool, batch, settled)
        await _end(pool, taken_at, keep_waiting, settled)
    finally:
        await pool.close()
    return settled


async def _learn(pool: Pool, batch: EventBatch, settled: Settled) -> None:
    """Again under the new epoch, so that whoever follows the log reads them; what the log has already stays."""
    made = [event.message_id for event in batch.events if event.kind == "created"]
    facts = [_row(batch.application_id, event) for event in batch.events if event.kind != "created"]
    async with pool.transaction() as c:
        if made:
            settled.missing += int(await c.fetchval(COUNT_MISSING, made))
        if not facts:
            return
        new = await c.fetch(APPEND_KNOWN, *zip(*facts, strict=True))
        if new:
            ids = list({str(row["message_id"]) for row in new})
            await queries.update_projection(c, ids)
            await c.execute(REMEMBER_TOUCHED, ids)
            longer = [_longer(row["message_id"], row["data"]) for row in new if row["kind"] in ("retried", "routed")]
            if longer:
                await queries_handoff.extend(c, longer)
    settled.learned += len(new)


def _row(application_id: str, event: PublishedEvent) -> tuple[object, ...]:
    at = round(event.occurred_at.timestamp() * 1000)
    return (event.message_id, event.kind, event.attempt, event.key, application_id, at, event.reason, event.data)


def _longer(message_id: object, data: dict[str, int]) -> tuple[str, int, int]:
    return (str(message_id), data.get("waited_ms", 0), data.get("uncounted", 0))


async def _end(pool: Pool, taken_at: datetime, keep_waiting: bool, settled: Settled) -> None:
    told = {"backup_at": taken_at.strftime("%Y-%m-%dT%H:%M:%SZ")}
    async with pool.connection() as c:
        await c.execute(FORGET_HANDOFFS)
        await c.execute(FORGET_SEARCHES)
        await c.execute(FORGET_DUE, keep_waiting, CLOCK_DOUBT)
        settled.waiting = await queries_handoff.count_due(c)
    last, more = _NIL, True
    while more:
        async with pool.transaction() as c:
            rows = await c.fetch(UNFINISHED, last, _PAGE)
            facts = [
                (str(r["id"]), "failed", r["attempt"], KEY, str(r["application_id"]), r["now_ms"], REASON, told)
                for r in rows
            ]
            if facts:
                last = str(rows[-1]["id"])
                await _fail(c, facts)
        settled.unknown += len(rows)
        more = len(rows) == _PAGE


async def _fail(c: Connection, facts: list[tuple[str, str, int, str, str, int, str, dict[str, str]]]) -> None:
    await queries.append(c, facts)
    await queries.update_projection(c, [fact[0] for fact in facts])
