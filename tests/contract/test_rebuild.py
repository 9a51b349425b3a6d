"""The rebuild makes `messages` what the log says: wherever its batches end, and killed at any step."""

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.ids import new_id
from libs.message import Event, Projection, fold
from libs.pg import Connection, Pool
from services.lifecycle import queries, queries_rebuild
from services.lifecycle.rebuild import Batches, rebuild
from tests.contract.aged_log import APPLICATION, AgedLog
from tests.databases import Database
from tests.events import event_sets

pytest_plugins = ["tests.contract.lifecycle_fixtures"]

SMALL = Batches(facts=2, handoffs=1, rows=2, listed=2)
ROWS = "SELECT * FROM lifecycle.messages ORDER BY id"
VERSIONS = "SELECT id, ctid, xmin FROM lifecycle.messages ORDER BY id"
IN_HANDOFFS = "SELECT unnest(message_ids)::text AS id, count(*) AS times FROM lifecycle.handoffs GROUP BY 1"
LATER = datetime(2100, 1, 1, tzinfo=UTC)


class Killed(Exception):
    """The process ends here."""


@pytest.fixture
def dsn(database: Database) -> str:
    return database.dsn("lifecycle")


async def filled(log: AgedLog, count: int = 12) -> list[str]:
    """Messages in all states; every fourth one is open and in a hand-off of its own."""
    ids = []
    now = datetime.now(UTC)
    for n in range(count):
        facts = ([], [("sent", now)], [("sent", now), ("received", now)], [("failed", now)])[n % 4]
        handoff_id = new_id()
        message_id = await log.message(now - timedelta(minutes=count - n), *facts, handoff_id=handoff_id)
        ids.append(message_id)
        if n % 4 == 0:
            await log.handoff(handoff_id, [message_id], LATER)
    return ids


async def rows_of(log: AgedLog, query: str = ROWS) -> list[dict[str, Any]]:
    async with log.pool.connection() as c:
        return [dict(row) for row in await c.fetch(query)]


def without_handoffs(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The log does not hold them: a row that was lost has one again if it is open."""
    return [{name: value for name, value in row.items() if name != "handoff_id"} for row in rows]


async def test_what_is_right_is_read_and_not_written(log: AgedLog, dsn: str) -> None:
    await filled(log)
    before = await rows_of(log, VERSIONS)
    rebuilt = await rebuild(dsn)
    assert (rebuilt.messages, rebuilt.changed, rebuilt.strangers) == (12, 0, 0)
    assert rebuilt.checksum_before == rebuilt.checksum_after
    assert await rows_of(log, VERSIONS) == before


@pytest.mark.parametrize("facts", [1, 2, 3, 7, 21, 22, 10_000])
async def test_wherever_ranges_end_the_result_is_the_same(log: AgedLog, dsn: str, facts: int) -> None:
    await filled(log)
    rows, whole = await rows_of(log), await rebuild(dsn)
    await log.owner("DELETE FROM lifecycle.messages WHERE status <> 'received'")
    await log.owner("UPDATE lifecycle.messages SET status = 'failed', sent_at = NULL, ttl = 1, channel = 'fcm'")
    told: list[int] = []
    rebuilt = await rebuild(dsn, lambda each: told.append(each.messages), Batches(facts=facts))
    assert (rebuilt.messages, rebuilt.changed, rebuilt.checksum_after) == (12, 12, whole.checksum_after)
    assert rebuilt.checksum_before != whole.checksum_before
    assert told == sorted(told)
    assert len(told) >= 21 // (facts + 2), "a range has about so many facts"
    assert without_handoffs(await rows_of(log)) == without_handoffs(rows)
    again = await rebuild(dsn)
    assert (again.checksum_before, again.changed) == (whole.checksum_before, 0)


async def test_an_empty_log_has_nothing_to_rebuild(dsn: str, database: Database) -> None:
    rebuilt = await rebuild(dsn)
    assert (rebuilt.messages, rebuilt.changed, rebuilt.checksum_before) == (0, 0, rebuilt.checksum_after)


async def test_a_row_is_the_fold_of_its_events_and_what_created_tells(log: AgedLog, dsn: str) -> None:
    cases: dict[str, list[Event]] = {}

    @settings(max_examples=40, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(event_sets(), min_size=10, max_size=10))
    def collect(found: list[list[Event]]) -> None:
        cases.update((new_id(), case) for case in found)

    collect()
    created = {
        "subscription_id": new_id(),
        "channel": "fcm",
        "lane": "bulk",
        "category": "ad",
        "ttl": 77,
        "collapse_hash": "00ff" * 8,
        "user_id": new_id(),
        "template_id": new_id(),
        "template_version": 3,
    }
    for message_id, case in cases.items():
        if not any((e.kind, e.attempt, e.key) == ("created", 1, "") for e in case):
            case.append(Event(message_id, "created", 1, "", 1_767_225_600_000))
    await append(log.pool, cases, created)
    await log.owner("UPDATE lifecycle.message_events SET sealed = '\\x00' WHERE kind = 'created'")
    rebuilt = await rebuild(dsn, batches=Batches(facts=500))
    assert (rebuilt.messages, rebuilt.changed) == (len(cases), len(cases))
    for row in await rows_of(log):
        case = cases[str(row["id"])]
        assert projection(row) == fold(case), case
        assert row["waited_ms"] == 5 * sum(e.kind in ("retried", "routed") for e in case)
        assert row["uncounted"] == sum(e.kind in ("retried", "routed") for e in case)
        assert row["collapse_hash"] == bytes.fromhex("00ff" * 8)
        assert {name: str(row[name]) for name in created if name != "collapse_hash"} == {
            name: str(value) for name, value in created.items() if name != "collapse_hash"
        }


async def append(pool: Pool, cases: dict[str, list[Event]], created: dict[str, object]) -> None:
    longer = {"waited_ms": 5, "uncounted": 1}
    rows: list[tuple[object, ...]] = [
        (i, e.kind, e.attempt, e.key, APPLICATION, e.occurred_at_ms, e.reason, data)
        for i, case in cases.items()
        for e in case
        for data in [created if e.kind == "created" else longer]
    ]
    async with pool.transaction() as c:
        await queries.append(c, rows)


def projection(row: dict[str, Any]) -> Projection:
    return queries.projection_of(row)  # type: ignore[arg-type]  # it is read by its keys alone


async def test_ranges_are_joined_as_wholes(log: AgedLog, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the planner takes a fold for, when the tables were empty as they were analyzed."""
    await log.owner("VACUUM (ANALYZE) lifecycle.messages", "VACUUM (ANALYZE) lifecycle.message_events")
    nobody = queries_rebuild.FIRST
    async with log.pool.transaction() as c:
        await queries_rebuild.no_loops(c)
        for name, values in (("COMPARE", ""), ("REPAIR", f", ARRAY['{nobody}'::uuid]")):
            await c.execute(f"PREPARE a_{name} AS {getattr(queries_rebuild, name)}")
            rows = await c.fetch(f"EXPLAIN EXECUTE a_{name} ('{nobody}', '{nobody}'{values})")
            plan = "\n".join(row[0] for row in rows)
            assert "Nested Loop" not in plan, plan
            assert "Seq Scan" not in plan, plan
    compare = queries_rebuild.compare

    async def watched(c: Connection, after: str, last: str) -> queries_rebuild.Compared:
        assert await c.fetchval("SHOW enable_nestloop") == "off"
        return await compare(c, after, last)

    monkeypatch.setattr(queries_rebuild, "compare", watched)
    await rebuild(dsn)


# killed ---------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def killed_in(number: int, *, committed: bool, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The process ends in its transaction of that number, or just after its commit."""
    transaction, begun = Pool.transaction, 0

    @contextlib.asynccontextmanager
    async def counted(pool: Pool) -> AsyncIterator[Connection]:
        nonlocal begun
        begun += 1
        number_of_this = begun
        async with transaction(pool) as c:
            yield c
            if number_of_this == number and not committed:
                raise Killed
        if number_of_this == number:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Pool, "transaction", counted)
        yield


@pytest.mark.parametrize("committed", [False, True])
async def test_killed_at_any_step_it_is_run_again(
    log: AgedLog, dsn: str, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    """All rows are gone, and one hand-off with them: it dies in its first step, is run again, dies in its second …"""
    ids = await filled(log, 8)
    rows = await rows_of(log)
    await log.owner(
        f"DELETE FROM lifecycle.handoffs WHERE message_ids = ARRAY['{ids[4]}'::uuid]", "DELETE FROM lifecycle.messages"
    )
    steps, ended = 0, False
    while not ended:
        steps += 1
        try:
            with killed_in(steps, committed=committed, monkeypatch=monkeypatch):
                await rebuild(dsn, batches=SMALL)
            ended = True
        except Killed:
            continue
    assert steps > 8, "ranges, hand-offs, orphans"
    found = await rows_of(log)
    assert without_handoffs(found) == without_handoffs(rows)
    assert found[0]["handoff_id"] == rows[0]["handoff_id"], "it is where it was, the other open one is in a new one"
    assert {row["id"]: row["times"] for row in await rows_of(log, IN_HANDOFFS)} == {ids[0]: 1, ids[4]: 1}
    assert (await rebuild(dsn)).changed == 0


async def test_a_database_that_is_away_for_a_moment_is_waited_for(
    log: AgedLog, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(log)
    compare, times = queries_rebuild.compare, 0

    async def lost_once(c: Connection, after: str, last: str) -> queries_rebuild.Compared:
        nonlocal times
        times += 1
        if times == 2:
            await c.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return await compare(c, after, last)

    monkeypatch.setattr(queries_rebuild, "compare", lost_once)
    rebuilt = await rebuild(dsn, batches=SMALL)
    assert (rebuilt.messages, rebuilt.changed) == (12, 0), "nothing is counted twice"
    assert rebuilt.checksum_before == rebuilt.checksum_after


# strangers ------------------------------------------------------------------------------------------------------------


async def test_a_row_that_the_log_does_not_know_is_told_and_left(log: AgedLog, dsn: str) -> None:
    await filled(log, 4)
    await log.owner(
        "INSERT INTO lifecycle.messages"
        " (id, application_id, subscription_id, channel, lane, category, ttl, handoff_id)"
        f" SELECT uuidv7(), '{APPLICATION}', uuidv7(), 'apns', 'normal', 'info', 60, uuidv7()"
        " FROM generate_series(1, 5)"
    )
    ranges: list[int] = []
    rebuilt = await rebuild(dsn, lambda each: ranges.append(each.strangers), SMALL)
    assert len(ranges) > 4, "they are not all taken at once either"
    for found in (rebuilt, await rebuild(dsn)):
        assert (found.messages, found.changed, found.strangers) == (4, 0, 5)
        assert found.checksum_before != found.checksum_after
    assert len(await rows_of(log)) == 9
