"""SQL of the application service: rate windows, emergency stops, and the audit log."""

from typing import NamedTuple

from libs.pg import Connection, Row
from libs.rpc import AuditEntry, AuditView, ListAudit, Stop
from services.application.queries import moment_of, unix_ms

TAKE = """
INSERT INTO application.rate_windows AS known (application_id, starts_at, granted, ceiling)
SELECT application_id, date_trunc('minute', now()), least(want, ceiling), ceiling
FROM unnest($1::uuid[], $2::integer[], $3::integer[]) AS asked (application_id, want, ceiling)
ORDER BY application_id
ON CONFLICT (application_id, starts_at) DO UPDATE SET
    granted = greatest(known.granted, least(known.granted::bigint + excluded.granted, excluded.ceiling)),
    ceiling = excluded.ceiling
RETURNING new.application_id,
    new.granted - coalesce(old.granted, 0) AS granted,
    greatest(new.ceiling - new.granted, 0) AS remaining,
    new.starts_at + interval '1 minute' AS ends_at,
    clock_timestamp() AS now
"""

DELETE_OLD_WINDOWS = """
DELETE FROM application.rate_windows WHERE (application_id, starts_at) IN (
    SELECT application_id, starts_at FROM application.rate_windows
    WHERE starts_at < now() - interval '2 minutes' FOR UPDATE SKIP LOCKED
)
"""

INSERT_STOP = """
INSERT INTO application.stops (application_id, channel, actor, reason)
SELECT applications.id, $2, $3, $4 FROM application.applications WHERE applications.id = $1
ON CONFLICT (application_id, channel) DO NOTHING
RETURNING application_id, channel, actor, reason, since
"""

FIND_STOP = """
SELECT application_id, channel, actor, reason, since FROM application.stops WHERE application_id = $1 AND channel = $2
"""

DELETE_STOP = "DELETE FROM application.stops WHERE application_id = $1 AND channel = $2 RETURNING channel"

LIST_STOPS = """
SELECT application_id, channel, actor, reason, since FROM application.stops
WHERE $1::uuid IS NULL OR application_id = $1 ORDER BY application_id, channel
"""

INSERT_AUDIT = """
INSERT INTO application.audit_log (application_id, actor, action, resource, request_id, data)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::jsonb[])
"""

# What is not given is folded away by a plan made for these parameters: each filter then finds its own index.
PLAN_FOR_PARAMETERS = "SELECT set_config('plan_cache_mode', 'force_custom_plan', true)"

_AUDIT_FILTER = """
application_id = $1
    AND ($2::text IS NULL OR actor = $2)
    AND ($3::text IS NULL OR action = $3)
    AND ($4::text IS NULL OR resource = $4)
    AND ($5::timestamptz IS NULL OR occurred_at >= $5)
    AND ($6::timestamptz IS NULL OR occurred_at < $6)
"""

AUDIT_PAGE = f"""
SELECT position, actor, action, resource, request_id, data, occurred_at FROM application.audit_log
WHERE {_AUDIT_FILTER} AND ($7::bigint IS NULL OR position < $7)
ORDER BY position DESC LIMIT $8 OFFSET $9
"""  # noqa: S608 - a piece of this file

AUDIT_COUNT = f"SELECT count(*) FROM (SELECT FROM application.audit_log WHERE {_AUDIT_FILTER} LIMIT $7) AS found"  # noqa: S608


class Asked(NamedTuple):
    application_id: str
    want: int
    ceiling: int


class Taken(NamedTuple):
    granted: int
    remaining: int
    window_ends_ms: int
    now_ms: int


async def take(c: Connection, asked: list[Asked]) -> dict[str, Taken]:
    """By application, each named once: what was taken of its current window, never more than is left."""
    rows = await c.fetch(TAKE, *map(list, zip(*asked, strict=True)))
    return {
        str(row["application_id"]): Taken(
            row["granted"], row["remaining"], unix_ms(row["ends_at"]), unix_ms(row["now"])
        )
        for row in rows
    }


async def delete_old_windows(c: Connection) -> None:
    await c.execute(DELETE_OLD_WINDOWS)


async def insert_stop(c: Connection, application_id: str, channel: str, actor: str, reason: str) -> Stop | None:
    """None where it is stopped already, or there is no such application."""
    row = await c.fetchrow(INSERT_STOP, application_id, channel, actor, reason)
    return _stop(row, is_new=True) if row else None


async def find_stop(c: Connection, application_id: str, channel: str) -> Stop | None:
    row = await c.fetchrow(FIND_STOP, application_id, channel)
    return _stop(row) if row else None


async def delete_stop(c: Connection, application_id: str, channel: str) -> bool:
    """False where it was not stopped."""
    return await c.fetchval(DELETE_STOP, application_id, channel) is not None


async def stops(c: Connection, application_id: str | None) -> list[Stop]:
    return [_stop(row) for row in await c.fetch(LIST_STOPS, application_id)]


def _stop(row: Row, *, is_new: bool = False) -> Stop:
    who_and_why = row["channel"], row["actor"], row["reason"]
    return Stop(str(row["application_id"]), *who_and_why, unix_ms(row["since"]), is_new)


async def insert_audit(c: Connection, entries: list[AuditEntry]) -> None:
    columns = zip(
        *((e.application_id, e.actor, e.action, e.resource, e.request_id, e.data) for e in entries), strict=True
    )
    await c.execute(INSERT_AUDIT, *map(list, columns))


async def plan_for_parameters(c: Connection) -> None:
    """Until the end of the transaction."""
    await c.execute(PLAN_FOR_PARAMETERS)


async def audit_page(c: Connection, asked: ListAudit, limit: int) -> list[AuditView]:
    """Newest first."""
    rows = await c.fetch(AUDIT_PAGE, *_filters(asked), asked.before, limit, asked.offset)
    return [_entry(row) for row in rows]


def _entry(row: Row) -> AuditView:
    who_and_what = row["actor"], row["action"], row["resource"]
    return AuditView(row["position"], *who_and_what, row["request_id"], row["data"], unix_ms(row["occurred_at"]))


async def audit_count(c: Connection, asked: ListAudit, most: int) -> int:
    """How many there are, wherever the page begins; `most` where there are more."""
    count: int = await c.fetchval(AUDIT_COUNT, *_filters(asked), most)
    return count


def _filters(asked: ListAudit) -> tuple[object, ...]:
    times = (None if ms is None else moment_of(ms) for ms in (asked.from_ms, asked.to_ms))
    return (asked.application_id, asked.actor, asked.action, asked.resource, *times)
