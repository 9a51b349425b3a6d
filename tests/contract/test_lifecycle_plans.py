"""A session plans a statement once, though its tables are empty at one time and full at another."""

import contextlib

import asyncpg

from libs.pg import Connection, Pool
from services.lifecycle import queries, queries_handoff, queries_schedule, queries_window
from services.lifecycle.statistics import Statistics
from tests.contract.aged_log import AgedLog
from tests.waiting import until

pytest_plugins = ["tests.contract.lifecycle_fixtures"]

LOOK_UP = (
    queries_handoff.OPEN_MESSAGES,
    queries.SETTLED,
    queries.DELETE_DUE,
    queries_handoff.LOCK_DUE_MESSAGES,
    queries_window.INSERT_HANDOFFS,
    queries_window.WAITING,
    queries_window.FORGET_FINISHED,
    queries_window.CONTENTS,
    queries_schedule.DUE_IN_TURN,
)


async def plans(c: Connection) -> str:
    found = []
    for number, statement in enumerate(LOOK_UP):
        values = ["NULL"] * len((await c.prepare(statement)).get_parameters())
        with contextlib.suppress(asyncpg.exceptions.DuplicatePreparedStatementError):
            await c.execute(f"PREPARE look_up_{number} AS {statement}")
        found += await c.fetch(f"EXPLAIN EXECUTE look_up_{number} ({', '.join(values)})")
    return "\n".join(row[0] for row in found)


async def test_a_session_that_saw_the_tables_empty_does_not_read_all_of_them_when_they_are_full(
    log: AgedLog, pool: Pool
) -> None:
    """A storm was worked off, and autovacuum has told the planner that nothing is there. Now the next one comes."""
    await log.owner("VACUUM (ANALYZE) lifecycle.due", "VACUUM (ANALYZE) lifecycle.handoffs")
    async with pool.connection() as c:
        await plans(c)
        await log.owner(
            """INSERT INTO lifecycle.due (message_id, application_id, lane, due_at, reason)
            SELECT uuidv7(), gen_random_uuid(), 'normal', now() + interval '1 hour', 'rate_limit'
            FROM generate_series(1, 5000)""",
            """INSERT INTO lifecycle.handoffs (id, application_id, lane, message_ids, size, published)
            SELECT uuidv7(), gen_random_uuid(), 'normal', ARRAY[uuidv7()], 1, n % 2 = 0
            FROM generate_series(1, 5000) AS n""",
        )

        async def counted() -> bool:
            return set(await queries_window.grown(c)) == {"lifecycle.due", "lifecycle.handoffs"}

        await until(counted, "Postgres has counted what was written")
        await Statistics(pool).round()
        assert await queries_window.grown(c) == []
        found = await plans(c)
    assert "Seq Scan on due" not in found, found
    assert "Seq Scan on handoffs" not in found, found
    assert "handoffs_published" in found
    assert "due_pressed" in found


async def test_the_first_message_of_a_week_is_found_by_an_index(pool: Pool) -> None:
    """Before anything is known of the week's tables, which may have 100,000 rows a minute later."""
    async with pool.connection() as c:
        found = await plans(c)
    assert "Seq Scan on messages" not in found, found
    assert "Seq Scan on message_events" not in found, found
