"""`automata projections rebuild`: the projection made anew from the log, with the system running (R12)."""

import hashlib

import msgspec

from libs.config import Database
from libs.pg import Connection, Pool, connect_pool

from . import queries
from .handoff import hand_off_again

_PAGE = 2_000
_NIL = "00000000-0000-0000-0000-000000000000"

NEXT_IDS = """
SELECT message_id FROM lifecycle.message_events
WHERE kind = 'created' AND message_id > $1
ORDER BY message_id LIMIT $2
"""
# All that a row holds comes from the log, but for the hand-off: that is the pipeline's own note, kept where it is.
UPSERT = f"""
{queries.FOLD}, projected AS (SELECT message_id, {queries.PROJECTED} FROM folded), longer AS (
    SELECT message_id,
        sum((data ->> 'waited_ms')::bigint) AS waited_ms, sum((data ->> 'uncounted')::smallint) AS uncounted
    FROM lifecycle.message_events
    WHERE message_id = ANY ($1::uuid[]) AND kind IN ('retried', 'routed')
    GROUP BY message_id
)
INSERT INTO lifecycle.messages AS m (
    id, application_id, subscription_id, channel, lane, category, ttl, handoff_id, collapse_hash, created_at,
    user_id, template_id, template_version, waited_ms, uncounted,
    status, attempt, reason, sent_at, received_at, converted_at, failed_at, cancelled_at)
SELECT e.message_id, e.application_id, (e.data ->> 'subscription_id')::uuid, e.data ->> 'channel', e.data ->> 'lane',
    e.data ->> 'category', (e.data ->> 'ttl')::integer,
    '{_NIL}', decode(e.data ->> 'collapse_hash', 'hex'), e.occurred_at,
    (e.data ->> 'user_id')::uuid, (e.data ->> 'template_id')::uuid, (e.data ->> 'template_version')::integer,
    coalesce(longer.waited_ms, 0), coalesce(longer.uncounted, 0),
    p.status, p.attempt, p.reason, p.sent_at, p.received_at, p.converted_at, p.failed_at, p.cancelled_at
FROM lifecycle.message_events AS e
JOIN projected AS p ON p.message_id = e.message_id
LEFT JOIN longer ON longer.message_id = e.message_id
WHERE e.message_id = ANY ($1::uuid[]) AND e.kind = 'created' AND e.attempt = 1 AND e.key = ''
ON CONFLICT (id) DO UPDATE SET
    application_id = excluded.application_id, subscription_id = excluded.subscription_id,
    channel = excluded.channel, lane = excluded.lane, category = excluded.category, ttl = excluded.ttl,
    collapse_hash = excluded.collapse_hash, created_at = excluded.created_at, user_id = excluded.user_id,
    template_id = excluded.template_id, template_version = excluded.template_version,
    waited_ms = excluded.waited_ms, uncounted = excluded.uncounted, status = excluded.status,
    attempt = excluded.attempt, reason = excluded.reason, sent_at = excluded.sent_at,
    received_at = excluded.received_at, converted_at = excluded.converted_at, failed_at = excluded.failed_at,
    cancelled_at = excluded.cancelled_at
"""  # noqa: S608 - made of constants
# Rows that were missing: their hand-off is looked up where it still is, the unfinished rest is handed off again.
ADOPT = f"""
UPDATE lifecycle.messages AS m SET handoff_id = h.id
FROM (
    SELECT DISTINCT ON (member.id) member.id AS message_id, handoffs.id
    FROM lifecycle.handoffs CROSS JOIN LATERAL unnest(handoffs.message_ids) AS member (id)
    ORDER BY member.id, handoffs.created_at DESC) AS h
WHERE m.id = h.message_id AND m.handoff_id = '{_NIL}'
"""  # noqa: S608 - made of constants
ORPHANS = f"""
SELECT m.id FROM lifecycle.messages AS m
WHERE m.handoff_id = '{_NIL}' AND m.status IN ('pending', 'errored')
    AND NOT EXISTS (SELECT FROM lifecycle.due AS d WHERE d.message_id = m.id)
LIMIT {_PAGE}
"""  # noqa: S608 - made of constants
# Chained over pages: a digest of digests, in id order.
PAGE_DIGEST = """
SELECT max(id::text) AS last, count(*) AS rows, md5(string_agg(md5(ROW(
    id, application_id, subscription_id, channel, lane, category, ttl, collapse_hash, created_at, user_id, template_id,
    template_version, waited_ms, uncounted, status, attempt, reason, sent_at, received_at, converted_at, failed_at,
    cancelled_at)::text), '' ORDER BY id)) AS digest
FROM (SELECT * FROM lifecycle.messages WHERE id > $1 ORDER BY id LIMIT $2) AS page
"""


class Rebuilt(msgspec.Struct, frozen=True):
    messages: int
    checksum_before: str
    checksum_after: str


async def rebuild(dsn: str) -> Rebuilt:
    """Recompute every row of `messages` from the log. Equal checksums mean that the projection was right.

    Messages are locked page by page, so facts that arrive meanwhile are neither lost nor half seen.
    """
    pool = await connect_pool(Database(url=dsn, pool=1, statement_timeout=60), prepare=queries.SET_EPOCH)
    try:
        async with pool.connection() as c:
            _, before = await _checksum(c)
        last = _NIL
        while True:
            async with pool.transaction() as c:
                ids = [str(row["message_id"]) for row in await c.fetch(NEXT_IDS, last, _PAGE)]
                if not ids:
                    break
                await queries.lock_messages(c, ids)
                await c.execute(UPSERT, ids)
                last = ids[-1]
        await _adopt(pool)
        async with pool.connection() as c:
            messages, after = await _checksum(c)
    finally:
        await pool.close()
    return Rebuilt(messages, before, after)


async def _adopt(pool: Pool) -> None:
    """Hand-offs made here are published by the reconciler, which finds them open."""
    async with pool.transaction() as c:
        await c.execute(ADOPT)
    found = True
    while found:
        async with pool.transaction() as c:
            orphans = [str(row["id"]) for row in await c.fetch(ORPHANS)]
            found = bool(orphans) and bool(await hand_off_again(c, orphans, 1))


async def _checksum(c: Connection) -> tuple[int, str]:
    digest, total, last = hashlib.sha256(), 0, _NIL
    while True:
        page = await c.fetchrow(PAGE_DIGEST, last, 10_000)
        if page is None or not page["rows"]:
            return total, digest.hexdigest()
        digest.update(page["digest"].encode())
        total += page["rows"]
        last = page["last"]
