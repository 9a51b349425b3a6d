"""A log whose messages are as old as a test wants them: rows are written with their times, nobody waits."""

import json
import secrets
from datetime import UTC, date, datetime, timedelta
from typing import Any

from libs.envelope import Outcome
from libs.ids import new_id
from libs.pg import Pool, Row, single_connection
from services.lifecycle import queries
from services.lifecycle.record import Facts, Recorder
from tests.databases import Database

APPLICATION = new_id()
WEEK = timedelta(days=7)
TABLES = ("messages", "message_events")
MESSAGE = """
INSERT INTO lifecycle.messages
    (id, application_id, subscription_id, channel, lane, category, ttl, handoff_id, created_at)
VALUES ($1, $2, gen_random_uuid(), $3, 'normal', 'info', $4, $5, $6)
"""
EVENT = """
INSERT INTO lifecycle.message_events (message_id, kind, attempt, key, application_id, occurred_at, reason, data, sealed)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb, '\\x00')
"""
HANDOFF = """
INSERT INTO lifecycle.handoffs (id, application_id, lane, message_ids, size, published, expires_at)
VALUES ($1, $2, 'normal', $3, $4, $5, $6)
"""
READ_ALL = """
INSERT INTO lifecycle.cursors (name, epoch, txid, position)
SELECT 'relay', 1, pg_snapshot_xmax(pg_current_snapshot()), 9e18::bigint
ON CONFLICT (name) DO UPDATE SET txid = excluded.txid
"""


def now() -> datetime:
    """To the millisecond, which is what facts tell."""
    found = datetime.now(UTC)
    return found.replace(microsecond=found.microsecond // 1000 * 1000)


def id_at(moment: datetime) -> str:
    """A UUIDv7 of that time."""
    digits = f"{round(moment.timestamp() * 1000):012x}7{secrets.token_hex(9)[1:4]}8{secrets.token_hex(8)[:15]}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def monday(weeks: int) -> date:
    """Of the week that is so many weeks from the present one."""
    today = now().date()
    return today - timedelta(days=today.weekday()) + timedelta(weeks=weeks)


def midday(week: date, days: int = 0) -> datetime:
    return datetime(week.year, week.month, week.day, 12, tzinfo=UTC) + timedelta(days=days)


def label(week: date) -> str:
    return week.strftime("%Gw%V")


class AgedLog:
    def __init__(self, pool: Pool, database: Database) -> None:
        self.pool = pool
        self.database = database
        self.recorder = Recorder(pool, 2, 1.0)

    async def message(
        self,
        at: datetime | None = None,
        *facts: tuple[str, datetime] | tuple[str, datetime, int],
        ttl: timedelta = timedelta(days=1),
        handoff_id: str | None = None,
        application_id: str = APPLICATION,
        channel: str = "apns",
    ) -> str:
        """Accepted `at`; `facts` are (kind, time) or (kind, time, attempt)."""
        at = at or now()
        message_id = id_at(at)
        data = {"subscription_id": new_id(), "channel": channel, "lane": "normal", "category": "info"}
        data |= {"ttl": int(ttl.total_seconds())}  # type: ignore[dict-item]
        async with self.pool.transaction() as c:
            seconds = int(ttl.total_seconds())
            await c.execute(MESSAGE, message_id, application_id, channel, seconds, handoff_id or new_id(), at)
            for kind, when, attempt in [("created", at, 1), *((*fact, 1)[:3] for fact in facts)]:
                row = (message_id, kind, attempt, "", application_id, when, None, json.dumps(data))
                await c.execute(EVENT, *row)
            await c.execute(
                "UPDATE lifecycle.messages SET subscription_id = $2 WHERE id = $1", message_id, data["subscription_id"]
            )
            await queries.update_projection(c, [message_id])
        return message_id

    async def handoff(
        self,
        handoff_id: str,
        ids: list[str],
        expires_at: datetime,
        *,
        published: bool = True,
        application_id: str = APPLICATION,
    ) -> None:
        async with self.pool.connection() as c:
            await c.execute(HANDOFF, handoff_id, application_id, ids, len(ids), published, expires_at)

    async def report(self, *items: Outcome, application_id: str = APPLICATION) -> None:
        await self.recorder.record("normal", Facts(application_id, list(items)))

    async def row(self, message_id: str) -> Row:
        async with self.pool.connection() as c:
            found = await c.fetchrow("SELECT * FROM lifecycle.messages WHERE id = $1", message_id)
        assert found is not None
        return found

    async def status(self, message_id: str) -> str:
        return str((await self.row(message_id))["status"])

    async def events(self, message_id: str, kind: str) -> list[Row]:
        query = "SELECT * FROM lifecycle.message_events WHERE message_id = $1 AND kind = $2 ORDER BY attempt"
        async with self.pool.connection() as c:
            return await c.fetch(query, message_id, kind)

    async def fetchval(self, query: str, *values: Any) -> Any:
        async with self.pool.connection() as c:
            return await c.fetchval(query, *values)

    # weeks ------------------------------------------------------------------------------------------------------------

    async def owner(self, *statements: str) -> None:
        async with single_connection(self.database.admin_dsn) as c:
            for statement in statements:
                await c.execute(statement)

    async def past_week(self, weeks: int) -> date:
        """The two tables of a week so many weeks ago, as they were made then."""
        week = monday(-weeks)
        async with single_connection(self.database.admin_dsn) as c:
            low, high = [await c.fetchval("SELECT lifecycle.first_id_of($1)", day) for day in (week, week + WEEK)]
            for table in TABLES:
                await c.execute(
                    f"CREATE TABLE lifecycle.{table}_{label(week)} PARTITION OF lifecycle.{table} "
                    f"FOR VALUES FROM ('{low}') TO ('{high}')"
                )
        return week

    async def forget_week(self, week: date) -> None:
        """As if nobody had made it yet."""
        await self.owner(*(f"DROP TABLE lifecycle.{table}_{label(week)}" for table in TABLES))

    async def read_all(self) -> None:
        """The relay has published everything."""
        async with self.pool.connection() as c:
            await c.execute(READ_ALL)

    async def where(self, week: date) -> set[str]:
        """The schemas in which its tables lie."""
        query = "SELECT DISTINCT schemaname FROM pg_tables WHERE tablename = ANY ($1)"
        async with self.pool.connection() as c:
            return {row[0] for row in await c.fetch(query, [f"{table}_{label(week)}" for table in TABLES])}
