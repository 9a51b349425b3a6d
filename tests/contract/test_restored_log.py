"""What a restore does to the log before anybody may send again (`services.lifecycle.restore`)."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from libs.config import Database as DatabaseSettings
from libs.events import EventBatch, PublishedEvent
from libs.ids import new_id
from libs.pg import Pool, connect_pool, single_connection
from services.lifecycle import queries, queries_reconcile, queries_tail, queries_window
from services.lifecycle.queries_window import NewHandoff
from services.lifecycle.restore import REASON, Settled, settle
from tests.databases import Database

APPLICATION, OTHER = new_id(), new_id()
TAKEN_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MESSAGE = """
INSERT INTO lifecycle.messages (id, application_id, subscription_id, channel, lane, category, ttl, handoff_id)
VALUES ($1, $2, gen_random_uuid(), 'apns', 'normal', 'info', 86400, gen_random_uuid())
"""
CREATED = """
INSERT INTO lifecycle.message_events (message_id, kind, attempt, key, application_id, data)
VALUES ($1, 'created', 1, '', $2, '{}')
"""


class Log:
    """A restored database, as its owner sees it."""

    def __init__(self, pool: Pool, dsn: str) -> None:
        self.pool = pool
        self.dsn = dsn

    async def message(self, *facts: tuple[str, int], due: str | None = None, seconds: float = 3600) -> str:
        """The id of a message with these (kind, attempt), which waits for `due` if that is given."""
        message_id = new_id()
        async with self.pool.transaction() as c:
            await c.execute(MESSAGE, message_id, APPLICATION)
            await c.execute(CREATED, message_id, APPLICATION)
            rows: list[tuple[Any, ...]] = [(message_id, k, a, "", APPLICATION, 0, None, {}) for k, a in facts]
            if rows:
                await queries.append(c, rows)
            await queries.update_projection(c, [message_id])
            if due is not None:
                await queries.insert_due(c, [(message_id, APPLICATION, "normal", int(seconds * 1000), due)])
            else:
                await queries_window.insert_handoffs(
                    c, [NewHandoff(new_id(), APPLICATION, "normal", [message_id], 0, 2**42)], 1_000
                )
        return message_id

    async def settle(
        self,
        *batches: EventBatch,
        keep_waiting: bool = True,
        epoch: int = 0,
        readers_at: queries_tail.Cursor | None = None,
    ) -> Settled:
        async def history() -> AsyncIterator[EventBatch]:
            for batch in batches:
                yield batch

        return await settle(
            self.dsn, TAKEN_AT, epoch=epoch, readers_at=readers_at, history=history(), keep_waiting=keep_waiting
        )

    async def row(self, message_id: str) -> dict[str, Any]:
        async with self.pool.connection() as c:
            found = await c.fetchrow("SELECT * FROM lifecycle.messages WHERE id = $1", message_id)
        assert found is not None
        return dict(found)

    async def events(self, message_id: str) -> list[dict[str, Any]]:
        query = "SELECT * FROM lifecycle.message_events WHERE message_id = $1 ORDER BY epoch, txid, position"
        async with self.pool.connection() as c:
            return [dict(row) for row in await c.fetch(query, message_id)]

    async def due(self) -> set[str]:
        async with self.pool.connection() as c:
            return {str(row["message_id"]) for row in await c.fetch("SELECT message_id FROM lifecycle.due")}

    async def handoffs(self) -> int:
        async with self.pool.connection() as c:
            return int(await c.fetchval("SELECT count(*) FROM lifecycle.handoffs"))


@pytest.fixture
async def log(database: Database) -> AsyncIterator[Log]:
    settings = DatabaseSettings(url=database.admin_dsn, pool=2)
    pool = await connect_pool(settings, prepare=queries.SET_EPOCH)
    yield Log(pool, database.admin_dsn)
    await pool.close()


def told(message_id: str, kind: str, attempt: int = 1, application: str = APPLICATION, **data: Any) -> EventBatch:
    """A fact as the old stream EVENTS has it."""
    at = datetime.now(UTC) + timedelta(seconds=1)
    event = PublishedEvent(1, "9000000", 1, message_id, kind, attempt, "", at, None, data)
    return EventBatch(application, [event])


async def test_what_was_unfinished_is_failed_and_says_why(log: Log) -> None:
    message_id = await log.message()
    settled = await log.settle()
    assert (settled.unknown, settled.waiting, await log.handoffs()) == (1, 0, 0)
    row = await log.row(message_id)
    assert (row["status"], row["reason"]) == ("failed", REASON)
    last = (await log.events(message_id))[-1]
    assert (last["kind"], last["attempt"], last["epoch"]) == ("failed", 1, 2)
    assert last["data"] == {"backup_at": "2026-01-02T03:04:05Z"}


async def test_a_search_for_lost_work_that_was_under_way_is_forgotten(log: Log) -> None:
    """What it found passed are streams of another time."""
    async with log.pool.connection() as c:
        await queries_reconcile.begin_search(c, "normal", new_id(), [new_id()])
        await log.settle()
        assert await c.fetchval("SELECT count(*) FROM lifecycle.reconciliations") == 0


async def test_what_was_finished_stays(log: Log) -> None:
    ids = [await log.message(("sent", 1)), await log.message(("failed", 1)), await log.message(("cancelled", 1))]
    before = [await log.row(each) for each in ids]
    assert (await log.settle()).unknown == 0
    assert [await log.row(each) for each in ids] == before


async def test_an_outcome_that_the_old_stream_knows_is_taken_over(log: Log) -> None:
    message_id = await log.message()
    settled = await log.settle(told(message_id, "sent"), told(message_id, "received", 0))
    assert (settled.learned, settled.unknown) == (2, 0)
    assert (await log.row(message_id))["status"] == "received"
    assert {event["epoch"] for event in await log.events(message_id) if event["kind"] != "created"} == {2}


async def test_facts_that_the_log_has_already_change_nothing(log: Log) -> None:
    message_id = await log.message(("sent", 1))
    before = await log.events(message_id)
    assert (await log.settle(told(message_id, "sent"), told(message_id, "sent"))).learned == 0
    assert await log.events(message_id) == before


async def test_a_fact_of_another_application_is_none_of_this_message(log: Log) -> None:
    message_id = await log.message()
    settled = await log.settle(told(message_id, "sent", application=OTHER))
    assert (settled.learned, settled.unknown) == (0, 1)


async def test_messages_accepted_later_are_counted(log: Log) -> None:
    known, lost = await log.message(("sent", 1)), new_id()
    settled = await log.settle(told(known, "created"), told(lost, "created"), told(lost, "sent"))
    assert (settled.missing, settled.learned) == (1, 0)


async def test_an_attempt_that_began_later_is_not_made_again(log: Log) -> None:
    message_id = await log.message(("errored", 1), due="retry:network", seconds=1)
    settled = await log.settle(told(message_id, "retried", 2, waited_ms=500, uncounted=1))
    assert (settled.learned, settled.unknown, await log.due()) == (1, 1, set())
    row = await log.row(message_id)
    assert (row["status"], row["attempt"], row["waited_ms"], row["uncounted"]) == ("failed", 2, 500, 1)


async def test_a_scheduled_message_whose_time_came_later_is_not_sent_again(log: Log) -> None:
    message_id = await log.message(("scheduled", 1), due="scheduled")
    settled = await log.settle(told(message_id, "routed", 1, waited_ms=500))
    assert (settled.learned, settled.unknown, await log.due()) == (1, 1, set())
    assert (await log.row(message_id))["waited_ms"] == 500


async def test_only_what_nobody_can_have_taken_goes_on_by_itself(log: Log) -> None:
    waiting = await log.message(("errored", 1), due="retry:outage")
    soon = await log.message(("errored", 1), due="retry:network", seconds=30)
    late = await log.message(("errored", 1), due="retry:network", seconds=-30)
    held = await log.message(due="emergency_stop:apns", seconds=10**9)
    broken = await log.message(due="breaker:apns", seconds=10**5)
    cancelled = await log.message(due="retry:outage")
    touched = await log.message(("errored", 1), due="retry:outage")
    settled = await log.settle(told(cancelled, "cancelled"), told(touched, "retried", 2))
    assert (await log.due(), settled.waiting) == ({waiting}, 1)
    assert (await log.row(waiting))["status"] == "errored"
    assert (await log.row(cancelled))["status"] == "cancelled"
    assert {(await log.row(each))["reason"] for each in (soon, late, held, broken, touched)} == {REASON}
    assert settled.unknown == 5


async def test_without_the_old_stream_nothing_goes_on_by_itself(log: Log) -> None:
    waiting = await log.message(("errored", 1), due="retry:outage")
    settled = await log.settle(keep_waiting=False)
    assert (settled.unknown, await log.due()) == (1, set())
    assert (await log.row(waiting))["reason"] == REASON


async def test_more_than_a_page_is_settled_whole(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.lifecycle.restore._PAGE", 3)
    ids = [await log.message() for _ in range(8)]
    assert (await log.settle()).unknown == 8
    assert {(await log.row(each))["status"] for each in ids} == {"failed"}


async def test_the_epoch_is_above_every_one_that_was_used(log: Log) -> None:
    assert (await log.settle()).epoch == 2
    assert (await log.settle(epoch=7)).epoch == 8
    assert (await log.settle(epoch=3)).epoch == 9


async def test_the_relay_goes_back_to_where_the_slowest_reader_was(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.lifecycle.restore.REWIND", 2)
    for _ in range(6):
        await log.message(("sent", 1))
    query = "SELECT epoch, txid::text AS txid, position FROM lifecycle.message_events ORDER BY epoch, txid, position"
    async with single_connection(log.dsn) as c:
        places = [(row["epoch"], row["txid"], row["position"]) for row in await c.fetch(query)]
        await queries_tail.save_cursor(c, "relay", places[10])
        await log.settle(readers_at=places[8])
        assert await queries_tail.cursor(c, "relay") == places[5]
        await log.settle(readers_at=places[1])
        assert await queries_tail.cursor(c, "relay") == queries_tail.START
        await queries_tail.save_cursor(c, "relay", places[3])
        await log.settle(readers_at=places[8])  # further than the relay itself: impossible, and left alone
        assert await queries_tail.cursor(c, "relay") == places[3]
