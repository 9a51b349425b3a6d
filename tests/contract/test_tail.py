"""Tailing the log never skips (R13)."""

import pytest

from libs.ids import new_id
from libs.pg import Connection, Pool, single_connection
from services.lifecycle import queries_tail as queries
from tests.databases import Database

pytest_plugins = ["tests.contract.lifecycle_fixtures"]

INSERT = """
INSERT INTO lifecycle.message_events (message_id, kind, attempt, key, application_id, epoch, txid, position)
VALUES ($1, 'created', 1, '', $2, $3, $4::text::xid8, $5)
"""


async def _read(pool: Pool, page: int) -> list[tuple[int, str, int]]:
    at = queries.START
    found: list[tuple[int, str, int]] = []
    while True:
        async with pool.connection() as c:
            rows = await queries.tail(c, at, page)
        if not rows:
            return found
        found += [(row["epoch"], row["xid"], row["position"]) for row in rows]
        at = found[-1]


@pytest.mark.parametrize("page", [1, 2, 100])
async def test_transactions_are_read_in_numeric_order_across_epochs(pool: Pool, page: int) -> None:
    places = [(1, "9", 3), (1, "10", 1), (1, "10", 2), (1, "100", 9), (0, "500", 7)]
    async with pool.transaction() as c:
        for epoch, txid, position in places:
            await c.execute(INSERT, new_id(), new_id(), epoch, txid, position)
    assert await _read(pool, page) == [(0, "500", 7), (1, "9", 3), (1, "10", 1), (1, "10", 2), (1, "100", 9)]


async def test_what_commits_late_is_not_passed_over(pool: Pool, database: Database) -> None:
    """Position 1 commits after position 2: the reader waits for it instead of going past."""
    early, late = new_id(), new_id()
    async with single_connection(database.admin_dsn) as other:
        await other.execute("SELECT set_config('automata.epoch', '1', false)")
        slow = other.transaction()
        await slow.start()
        await _insert_now(other, late)
        async with pool.transaction() as c:
            await _insert_now(c, early)
        assert await _read(pool, 10) == []
        await slow.commit()
    assert len(await _read(pool, 10)) == 2


async def _insert_now(c: Connection, message_id: str) -> None:
    await c.execute(
        "INSERT INTO lifecycle.message_events (message_id, kind, attempt, key, application_id) "
        "VALUES ($1, 'created', 1, '', $1)",
        message_id,
    )
