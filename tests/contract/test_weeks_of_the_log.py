"""Weekly tables are made ahead and put away, whole, counted, and only when nothing of them is under way."""

import asyncio
from datetime import date, timedelta

import pytest

from libs import telemetry
from libs.envelope import Outcome
from libs.pg import Pool
from services.lifecycle import partitions, queries
from services.lifecycle.partitions import AHEAD, Partitions
from services.lifecycle.rebuild import rebuild
from tests.contract.aged_log import APPLICATION, AgedLog, label, midday, monday
from tests.databases import Database

pytest_plugins = ["tests.contract.lifecycle_fixtures"]

RETENTION = 90
SHAPE = """
SELECT pg_get_indexdef(i.indexrelid) FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid WHERE c.relname = $1
UNION ALL
SELECT pg_get_constraintdef(k.oid) FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid WHERE c.relname = $1
UNION ALL
SELECT unnest(reloptions) FROM pg_class WHERE relname = $1
"""
LOG, PUT_AWAY = {"lifecycle"}, {"lifecycle_archive"}


@pytest.fixture
def pool_size() -> int:
    return 6


@pytest.fixture
def weeks(pool: Pool) -> Partitions:
    return Partitions(pool, RETENTION)


async def all_put_away(weeks: Partitions) -> None:
    async with asyncio.timeout(20):
        while await weeks.put_away():
            pass


async def old_week(log: AgedLog, weeks: int = 20) -> tuple[date, list[str]]:
    """A week with four finished messages, all of them published."""
    week = await log.past_week(weeks)
    at, sent_at = midday(week), midday(week, 1)
    ids = [
        await log.message(at, ("sent", sent_at)),
        await log.message(at, ("sent", sent_at), ("received", sent_at)),
        await log.message(at, ("failed", sent_at), channel="fcm"),
        await log.message(midday(week, 2), ("sent", midday(week, 2))),
    ]
    await log.read_all()
    return week, ids


async def counts(log: AgedLog) -> list[tuple[object, ...]]:
    query = "SELECT day, channel, category, status, messages FROM lifecycle.archived_counts ORDER BY 1, 2, 3, 4"
    async with log.pool.connection() as c:
        return [tuple(row) for row in await c.fetch(query)]


# made ahead


async def test_a_week_that_is_missing_is_made_like_the_others(log: AgedLog, weeks: Partitions) -> None:
    lost = monday(AHEAD)
    await log.forget_week(lost)
    await weeks.make_ahead()
    ahead = telemetry.gauge("weeks_ahead")._value
    assert ahead.get() == AHEAD - 1
    await weeks.make_ahead()
    assert (ahead.get(), await log.where(lost)) == (AHEAD, LOG)
    message_id = await log.message(midday(lost))
    for table, column in (("messages", "id"), ("message_events", "message_id")):
        home = f"SELECT tableoid::regclass::text FROM lifecycle.{table} WHERE {column} = $1"
        assert await log.fetchval(home, message_id) == f"lifecycle.{table}_{label(lost)}"
        beside = f"{table}_{label(monday(AHEAD - 1))}"
        made = [text.replace(f"{table}_{label(lost)}", beside) for text in await shape(log, f"{table}_{label(lost)}")]
        assert sorted(made) == sorted(await shape(log, beside))


async def shape(log: AgedLog, table: str) -> list[str]:
    """Its indexes, constraints and settings."""
    async with log.pool.connection() as c:
        return [str(row[0]) for row in await c.fetch(SHAPE, table)]


async def test_two_processes_may_make_weeks_at_once(log: AgedLog, pool: Pool) -> None:
    lost = [monday(AHEAD - n) for n in range(3)]
    for week in lost:
        await log.forget_week(week)
    both = [Partitions(pool, RETENTION) for _ in range(2)]
    await asyncio.gather(*(one.make_ahead() for one in both), return_exceptions=True)
    await both[0].make_ahead()
    assert [await log.where(week) for week in lost] == [LOG] * 3


async def test_what_came_before_its_week_was_made_moves_into_it(log: AgedLog, weeks: Partitions) -> None:
    lost = monday(0)
    await log.forget_week(lost)
    message_id = await log.message(midday(lost), ("sent", midday(lost)))
    home = "SELECT tableoid::regclass::text FROM lifecycle.messages WHERE id = $1"
    assert await log.fetchval(home, message_id) == "lifecycle.messages_other"
    await weeks.make_ahead()
    assert await log.fetchval(home, message_id) == f"lifecycle.messages_{label(lost)}"
    assert [len(await log.events(message_id, kind)) for kind in ("created", "sent")] == [1, 1]


@pytest.mark.parametrize("statement", [
    "SELECT lifecycle.add_partition('cursors', date_trunc('week', now())::date)",
    "SELECT lifecycle.add_partition('messages', date_trunc('week', now())::date + 1)",
    "SELECT lifecycle.add_partition('messages', date_trunc('week', now())::date - 70)",
    "SELECT lifecycle.count_week(date_trunc('week', now())::date, 10)",
    "SELECT lifecycle.count_week(date_trunc('week', now())::date - 69, 10)",
])  # fmt: skip
async def test_only_weeks_that_make_sense_are_made_or_counted(log: AgedLog, statement: str) -> None:
    with pytest.raises(Exception, match="no week that"):
        await log.fetchval(statement)


# put away


async def test_a_finished_week_is_counted_and_put_away_with_its_events(log: AgedLog, weeks: Partitions) -> None:
    week, ids = await old_week(log)
    await all_put_away(weeks)
    assert await log.where(week) == PUT_AWAY
    assert await log.fetchval("SELECT count(*) FROM lifecycle.messages WHERE id = ANY ($1)", ids) == 0
    assert await counts(log) == [
        (week, "apns", "info", "received", 1),
        (week, "apns", "info", "successful", 1),
        (week, "fcm", "info", "failed", 1),
        (week + timedelta(days=2), "apns", "info", "successful", 1),
    ]
    assert await log.fetchval("SELECT application_id::text FROM lifecycle.archived_counts LIMIT 1") == APPLICATION
    await log.owner(f"SELECT 1 / count(*) FROM lifecycle_archive.message_events_{label(week)}")


async def test_counts_are_the_same_in_however_many_pages(
    log: AgedLog, weeks: Partitions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "_PAGE", 2)
    await old_week(log)
    await all_put_away(weeks)
    assert sum(int(str(row[-1])) for row in await counts(log)) == 4


async def test_a_week_within_the_retention_stays(log: AgedLog, pool: Pool) -> None:
    week, _ = await old_week(log, 8)
    await all_put_away(Partitions(pool, RETENTION))
    await all_put_away(Partitions(pool, 0))
    assert await log.where(week) == LOG
    await all_put_away(Partitions(pool, 30))
    assert await log.where(week) == PUT_AWAY


async def test_a_week_waits_for_its_last_message_and_others_do_not_wait_for_it(log: AgedLog, weeks: Partitions) -> None:
    week, _ = await old_week(log, 21)
    younger, _ = await old_week(log, 20)
    waiting = await log.message(midday(week, 3), ttl=timedelta(days=1000))
    await log.read_all()
    await all_put_away(weeks)
    assert (await log.where(week), await log.where(younger)) == (LOG, PUT_AWAY)
    assert {row[0] for row in await counts(log)} == {younger, younger + timedelta(days=2)}

    async def an_hour_later() -> None:
        await log.owner("UPDATE lifecycle.archived_weeks SET look_at = now()")
        await all_put_away(weeks)

    await an_hour_later()
    assert await log.where(week) == LOG
    await log.report(Outcome(waiting, "sent", 1, "call", 0))
    await log.read_all()
    await an_hour_later()
    assert await log.where(week) == PUT_AWAY
    assert sum(int(str(row[-1])) for row in await counts(log)) == 9


async def test_a_week_with_something_in_due_stays(log: AgedLog, weeks: Partitions) -> None:
    week, ids = await old_week(log)
    async with log.pool.connection() as c:
        await queries.insert_due(c, [(ids[0], APPLICATION, "normal", 1000, "scheduled")])
    await all_put_away(weeks)
    assert await log.where(week) == LOG


async def test_a_receipt_that_comes_after_the_counting_is_counted_too(log: AgedLog, weeks: Partitions) -> None:
    week, ids = await old_week(log)
    async with log.pool.connection() as c:
        assert await c.fetchval("SELECT lifecycle.count_week($1, 100)", week) == "counted"
    await log.report(Outcome(ids[0], "received", 0, "", 0))
    await log.read_all()
    assert not await weeks.put_away(), "it is counted anew"
    assert (await log.where(week), await counts(log)) == (LOG, [])
    await all_put_away(weeks)
    assert await log.where(week) == PUT_AWAY
    assert [row[-1] for row in await counts(log) if row[3] == "received"] == [2]


async def test_a_week_that_the_relay_has_not_published_stays(log: AgedLog, weeks: Partitions) -> None:
    week, _ = await old_week(log)
    await log.owner("UPDATE lifecycle.cursors SET txid = '3' WHERE name = 'relay'")
    await all_put_away(weeks)
    assert await log.where(week) == LOG
    await log.owner("DELETE FROM lifecycle.cursors")
    await all_put_away(weeks)
    assert await log.where(week) == LOG
    await log.read_all()
    await all_put_away(weeks)
    assert await log.where(week) == PUT_AWAY


async def test_weeks_are_put_away_in_any_order_twice_and_by_two_at_once(log: AgedLog, pool: Pool) -> None:
    found = [(await old_week(log, n))[0] for n in (22, 20, 21)]
    async with pool.connection() as c:
        assert await c.fetchval("SELECT lifecycle.archive_week($1)", found[0]) == "uncounted"
    both = [Partitions(pool, RETENTION) for _ in range(2)]
    await asyncio.gather(*(all_put_away(one) for one in both), return_exceptions=True)
    await all_put_away(both[0])
    assert [await log.where(week) for week in found] == [PUT_AWAY] * 3
    assert sum(int(str(row[-1])) for row in await counts(log)) == 12
    async with pool.connection() as c:
        assert await c.fetchval("SELECT lifecycle.count_week($1, 10)", found[0]) == "archived"
        assert await c.fetchval("SELECT lifecycle.archive_week($1)", found[0]) == "archived"


async def test_an_empty_week_is_put_away(log: AgedLog, weeks: Partitions) -> None:
    week = await log.past_week(30)
    await all_put_away(weeks)
    assert (await log.where(week), await counts(log)) == (PUT_AWAY, [])


async def test_the_projection_is_rebuilt_from_the_weeks_that_are_there(
    log: AgedLog, weeks: Partitions, database: Database
) -> None:
    await old_week(log)
    kept = await log.message(None, ("sent", midday(monday(0))))
    await all_put_away(weeks)
    rebuilt = await rebuild(database.dsn("lifecycle"))
    assert (rebuilt.messages, rebuilt.checksum_before) == (1, rebuilt.checksum_after)
    assert await log.status(kept) == "successful"
    assert len(await counts(log)) == 4


async def test_a_late_message_of_a_week_that_is_put_away_is_kept(log: AgedLog, weeks: Partitions) -> None:
    week, ids = await old_week(log)
    await all_put_away(weeks)
    late = await log.message(midday(week))
    await log.report(Outcome(ids[0], "received", 0, "", 0), Outcome(late, "sent", 1, "c", 0))
    assert await log.status(late) == "successful"
    assert len(await counts(log)) == 4


async def test_lifecycle_can_neither_read_the_archive_nor_change_counts(log: AgedLog, weeks: Partitions) -> None:
    week, _ = await old_week(log)
    await all_put_away(weeks)
    for statement in (
        f"SELECT FROM lifecycle_archive.messages_{label(week)}",
        f"DROP TABLE lifecycle_archive.messages_{label(week)}",
        "UPDATE lifecycle.week_counts SET messages = 0",
        "DELETE FROM lifecycle.archived_weeks",
        f"SELECT lifecycle.count_anew('{week}')",
    ):
        with pytest.raises(Exception, match="permission denied"):
            await log.fetchval(statement)
