"""What nobody touches expires some seconds after its deadline, wherever it is stuck."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from libs.bus import Bus
from libs.envelope import Outcome
from libs.ids import new_id
from libs.pg import Pool
from libs.waits import WAITS, Hold
from services.lifecycle import expiry, queries, queries_expiry, queries_handoff
from services.lifecycle.expiry import Expiry
from services.lifecycle.settings import Lifecycle
from tests.contract.aged_log import APPLICATION, AgedLog, now
from tests.contract.lifecycle_harness import lifecycle
from tests.databases import Database
from tests.waiting import until

pytest_plugins = ["tests.contract.lifecycle_fixtures"]

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)


async def stuck(log: AgedLog, *ages: timedelta, published: bool = True, ttl: timedelta = DAY) -> tuple[str, list[str]]:
    """A hand-off of messages that were accepted so long ago."""
    handoff_id = new_id()
    ids = [await log.message(now() - age, handoff_id=handoff_id, ttl=ttl) for age in ages]
    await log.handoff(handoff_id, ids, now() - max(ages) + ttl, published=published)
    return handoff_id, ids


async def swept(pool: Pool) -> None:
    async with asyncio.timeout(20):
        while await Expiry(pool).round():
            pass


async def expires_in(log: AgedLog, handoff_id: str) -> float | None:
    """Seconds until the hand-off is looked at; None: never."""
    seconds = "nullif(extract(EPOCH FROM expires_at - now())::float8, 'infinity')"
    query = f"SELECT {seconds} FROM lifecycle.handoffs WHERE id = $1"
    return await log.fetchval(query, handoff_id)  # type: ignore[no-any-return]


@pytest.mark.parametrize("published", [True, False])
async def test_what_is_stuck_past_its_deadline_expires_and_says_so(log: AgedLog, pool: Pool, published: bool) -> None:
    handoff_id, (message_id,) = await stuck(log, DAY + MINUTE, published=published)
    await swept(pool)
    row = await log.row(message_id)
    assert (row["status"], row["reason"]) == ("failed", "expired")
    (event,) = await log.events(message_id, "expired")
    deadline_ms = round(row["created_at"].timestamp() * 1000) + 86_400_000
    assert event["data"] == {"deadline_ms": deadline_ms, "last_status": "pending", "swept": True}
    assert (event["attempt"], event["key"]) == (1, "ttl")
    assert await expires_in(log, handoff_id) is None


async def test_who_has_the_message_in_hand_speaks_first(log: AgedLog, pool: Pool) -> None:
    handoff_id, (message_id,) = await stuck(log, DAY + 5 * SECOND)
    await swept(pool)
    assert await log.status(message_id) == "pending"
    assert (await expires_in(log, handoff_id) or 0) < 0, "looked at again"


async def test_a_hand_off_is_looked_at_again_when_its_next_message_is_due(log: AgedLog, pool: Pool) -> None:
    handoff_id, (late, next_one, last) = await stuck(log, DAY + HOUR, DAY - HOUR, DAY - 2 * HOUR)
    await swept(pool)
    assert [await log.status(i) for i in (late, next_one, last)] == ["failed", "pending", "pending"]
    assert await expires_in(log, handoff_id) == pytest.approx(3600, abs=30)


async def test_time_that_does_not_count_is_not_counted(log: AgedLog, pool: Pool) -> None:
    _, (message_id,) = await stuck(log, DAY + MINUTE)
    async with pool.connection() as c:
        await queries_handoff.extend(c, [(message_id, 3_600_000, 1)])
    await swept(pool)
    assert await log.status(message_id) == "pending"


async def test_what_ended_waits_or_was_handed_off_again_is_left_alone(log: AgedLog, pool: Pool) -> None:
    _, (sent, held, again, errored) = await stuck(log, *[DAY + HOUR] * 4)
    await log.report(Outcome(sent, "sent", 1, "c", 0))
    async with pool.connection() as c:
        await queries.insert_due(c, [(held, APPLICATION, "normal", 10**9, "quiet_hours")])
        await queries_handoff.set_handoff(c, [(again, new_id())])
        await queries.append(c, [(errored, "errored", 1, "c", APPLICATION, 0, "Reset", {})])
        await queries.update_projection(c, [errored])
    await swept(pool)
    assert [await log.status(i) for i in (sent, held, again)] == ["successful", "pending", "pending"]
    (event,) = await log.events(errored, "expired")
    assert event["data"]["last_status"] == "errored"


async def test_a_message_that_was_sent_after_all_is_successful(log: AgedLog, pool: Pool) -> None:
    _, (message_id,) = await stuck(log, DAY + MINUTE)
    await swept(pool)
    await log.report(Outcome(message_id, "sent", 1, "call", 0))
    row = await log.row(message_id)
    assert (row["status"], row["reason"]) == ("successful", None)
    await swept(pool)
    assert await log.status(message_id) == "successful"


async def test_two_sweeps_and_an_outcome_at_once_come_to_one_end(log: AgedLog, pool: Pool) -> None:
    handoffs = [await stuck(log, *[DAY + MINUTE] * 10) for _ in range(5)]
    ids = [i for _, members in handoffs for i in members]
    outcomes = [log.report(Outcome(i, "sent", 1, "c", 0)) for i in ids[::2]]
    await asyncio.gather(swept(pool), swept(pool), *outcomes)
    assert {await log.status(i) for i in ids[::2]} == {"successful"}
    assert {await log.status(i) for i in ids[1::2]} == {"failed"}
    assert {len(await log.events(i, "expired")) for i in ids[1::2]} == {1}


async def test_many_are_swept_in_bounded_pages(log: AgedLog, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "_MESSAGES", 5)
    handoffs = [await stuck(log, *[DAY + MINUTE] * 3) for _ in range(4)]
    assert await Expiry(pool).round()
    async with pool.connection() as c:
        assert len(await queries_expiry.overdue_handoffs(c, 0, 10)) == 3
    await swept(pool)
    assert {await log.status(i) for _, ids in handoffs for i in ids} == {"failed"}


async def test_the_service_sweeps_by_itself(log: AgedLog, database: Database, bus: Bus, key_ring_file: Path) -> None:
    async with lifecycle(database, bus, key_ring_file, own=Lifecycle(reconcile_after=60)) as service:
        message = service.message(ttl=3600)
        await service.accept(message)
        await log.owner(
            "UPDATE lifecycle.messages SET created_at = created_at - interval '2 hours'",
            "UPDATE lifecycle.handoffs SET expires_at = expires_at - interval '2 hours'",
        )

        async def failed() -> bool:
            return (await service.get(message.message_id)).status == "failed"

        await until(failed, "the message expires")
        view = await service.get(message.message_id)
    assert (view.reason, view.events[-1].data["swept"]) == ("expired", True)


async def test_what_is_not_overdue_is_not_even_looked_at(log: AgedLog, pool: Pool) -> None:
    async with pool.transaction() as c:
        await c.execute(
            "INSERT INTO lifecycle.handoffs (id, application_id, lane, message_ids, expires_at) "
            "SELECT gen_random_uuid(), gen_random_uuid(), 'bulk', '{}', now() + interval '1 hour' FROM "
            "generate_series(1, 3000)"
        )
        plan = await c.fetch(f"EXPLAIN (ANALYZE) {queries_expiry.OVERDUE_HANDOFFS}", 10_000, 50)
    assert "handoffs_expiry" in "\n".join(row[0] for row in plan)


@pytest.mark.parametrize("hold", WAITS)
async def test_nothing_waits_beyond_its_deadline_but_where_waiting_does_not_age(log: AgedLog, hold: Hold) -> None:
    message_id = await log.message(ttl=HOUR)
    until_ms = None if WAITS[hold].open_ended else int((now() + DAY).timestamp() * 1000)
    await log.report(Outcome(message_id, "held", 1, hold, 0, hold, hold_until_ms=until_ms))
    left = await log.fetchval(
        "SELECT extract(EPOCH FROM due_at - now())::float8 FROM lifecycle.due WHERE message_id = $1", message_id
    )
    assert (left <= 3600) == WAITS[hold].ages
