"""The set-based SQL of lifecycle is the same fold as `libs.message` (R3), and refuses what the table does not have."""

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.config import Database as DatabaseSettings
from libs.ids import new_id
from libs.message import Event, fold
from libs.pg import Pool, connect_pool
from services.lifecycle import queries
from tests.databases import Database
from tests.events import event_sets

APPLICATION = new_id()


async def test_python_and_sql_agree_on_any_events(database: Database) -> None:
    pool = await connect_pool(DatabaseSettings(url=database.dsn("lifecycle"), pool=1), prepare=queries.SET_EPOCH)
    cases: list[list[Event]] = []

    @settings(max_examples=600, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(event_sets(), min_size=20, max_size=20))
    def collect(found: list[list[Event]]) -> None:
        cases.extend(found)

    collect()
    assert len(cases) > 1_000
    try:
        for start in range(0, len(cases), 500):
            await _compare(pool, {new_id(): case for case in cases[start : start + 500]})
    finally:
        await pool.close()


async def _compare(pool: Pool, cases: dict[str, list[Event]]) -> None:
    async with pool.transaction() as c:
        rows: list[tuple[object, ...]] = [
            (i, e.kind, e.attempt, e.key, APPLICATION, e.occurred_at_ms, e.reason, {})
            for i, case in cases.items()
            for e in case
        ]
        assert await queries.append(c, rows) == len(rows)
        assert await queries.append(c, rows) == 0, "appending again changes nothing (R4)"
        found = await queries.select_fold(c, list(cases))
    for message_id, case in cases.items():
        assert found[message_id] == fold(case), case


async def test_the_checks_repeat_the_table(database: Database) -> None:
    pool = await connect_pool(DatabaseSettings(url=database.dsn("lifecycle"), pool=1), prepare=queries.SET_EPOCH)
    try:
        async with pool.connection() as c:
            with pytest.raises(asyncpg.CheckViolationError):
                await queries.append(c, [(new_id(), "lost", 1, "", APPLICATION, 0, None, {})])
    finally:
        await pool.close()
