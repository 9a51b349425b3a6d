"""The rebuild while facts arrive; and whose hand-off a message is in that had lost its row."""

import asyncio
from datetime import UTC, datetime

import pytest

from libs.envelope import Outcome
from libs.ids import new_id
from libs.pg import single_connection
from services.lifecycle import queries
from services.lifecycle.queries_rebuild import NO_HANDOFF
from services.lifecycle.rebuild import Batches, Rebuilt, rebuild
from tests.contract.aged_log import APPLICATION, AgedLog
from tests.contract.test_rebuild import IN_HANDOFFS, LATER, SMALL, filled, rows_of
from tests.databases import Database
from tests.waiting import until

pytest_plugins = ["tests.contract.lifecycle_fixtures"]


@pytest.fixture
def dsn(database: Database) -> str:
    return database.dsn("lifecycle")


async def waits_for_a_lock(dsn: str) -> None:
    async with single_connection(dsn) as c:

        async def waits() -> bool:
            query = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
            return bool(await c.fetchval(query))

        await until(waits, "the rebuild waits")


async def rebuilt_while_recording(database: Database, message_id: str, kind: str, at_ms: int) -> Rebuilt:
    """The rebuild waits for the message, which is locked, and a fact about it is committed."""
    async with single_connection(database.admin_dsn) as c:
        await c.execute(queries.SET_EPOCH)
        async with c.transaction():
            await queries.lock_messages(c, [message_id])
            running = asyncio.create_task(rebuild(database.dsn("lifecycle")))
            await waits_for_a_lock(database.admin_dsn)
            await queries.append(c, [(message_id, kind, 1, "", APPLICATION, at_ms, None, {})])
            await queries.update_projection(c, [message_id])
    return await running


async def test_a_fact_that_is_being_recorded_is_in_the_row_that_is_repaired(
    log: AgedLog, dsn: str, database: Database
) -> None:
    message_id = await log.message(None, ("sent", datetime.now(UTC)))
    await log.owner("UPDATE lifecycle.messages SET status = 'pending', sent_at = NULL")
    rebuilt = await rebuilt_while_recording(database, message_id, "received", 2**42)
    assert rebuilt.changed == 1
    assert await log.status(message_id) == "received"
    assert (await rebuild(dsn)).changed == 0


async def test_what_ends_while_it_is_looked_at_is_not_handed_off_again(
    log: AgedLog, dsn: str, database: Database
) -> None:
    message_id = await log.message(handoff_id=NO_HANDOFF)
    await rebuilt_while_recording(database, message_id, "sent", 2**40)
    assert await rows_of(log, IN_HANDOFFS) == []


async def test_facts_that_arrive_all_the_time_make_no_difference(log: AgedLog, dsn: str) -> None:
    ids = await filled(log, 40)
    ended = asyncio.Event()

    async def report() -> None:
        for message_id in ids:
            await log.report(Outcome(message_id, "received", 1, "", 0))
            await log.message(None, ("sent", datetime.now(UTC)))
        ended.set()

    reporting = asyncio.create_task(report())
    runs: list[Rebuilt] = []
    while not ended.is_set():
        runs.append(await rebuild(dsn, batches=SMALL))
    await reporting
    runs.append(await rebuild(dsn))
    assert [each.changed for each in runs] == [0] * len(runs)
    assert all(each.checksum_before == each.checksum_after for each in runs)
    assert runs[-1].messages == 80


# hand-offs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batches", [SMALL, Batches()])
async def test_of_several_handoffs_the_newest_has_the_message(log: AgedLog, dsn: str, batches: Batches) -> None:
    ids = [await log.message() for _ in range(5)]
    old, new, newest = sorted(new_id() for _ in range(3))
    for handoff_id, members in ((newest, ids[:2]), (old, ids[1:]), (new, ids[2:4])):
        await log.handoff(handoff_id, members, LATER)  # the order of their ids says nothing
    await log.owner("DELETE FROM lifecycle.messages")
    await rebuild(dsn, batches=batches)
    found = {str(row["id"]): str(row["handoff_id"]) for row in await rows_of(log)}
    assert [found[i] for i in ids] == [newest, old, new, new, old]
    assert len(await rows_of(log, "SELECT id FROM lifecycle.handoffs")) == 3, "nothing is handed off again"


async def test_what_waits_in_due_is_not_handed_off(log: AgedLog, dsn: str) -> None:
    message_id = await log.message(handoff_id=NO_HANDOFF)
    async with log.pool.connection() as c:
        await queries.insert_due(c, [(message_id, APPLICATION, "normal", 60_000, "scheduled")])
    await rebuild(dsn)
    assert await rows_of(log, IN_HANDOFFS) == []
