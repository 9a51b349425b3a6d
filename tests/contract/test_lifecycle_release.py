"""What released stops give back to the timekeeper: a bounded number at a time, each application its share."""

from collections import Counter

import pytest

from libs.bus import Bus
from libs.clock import FakeClock
from libs.errors import ServiceUnavailable
from libs.ids import new_id
from libs.pg import Pool
from libs.rpc import ListStops, Stop, Stops
from services.lifecycle import queries, queries_stops
from services.lifecycle.release import ROOM, Release

pytest_plugins = ["tests.contract.lifecycle_fixtures"]

MANY, FEW, STOPPED = new_id(), new_id(), new_id()


@pytest.fixture
def pool_size() -> int:
    return 1


async def hold(pool: Pool, application_id: str, count: int, channel: str = "apns") -> None:
    async with pool.connection() as c:
        rows = [(new_id(), application_id, "bulk", 315_360_000_000, f"emergency_stop:{channel}") for _ in range(count)]
        await queries.insert_due(c, rows)


async def due(pool: Pool) -> Counter[str]:
    """How many are due now, by application."""
    async with pool.connection() as c:
        rows = await c.fetch("SELECT application_id::text AS a FROM lifecycle.due WHERE due_at <= now()")
        return Counter(row["a"] for row in rows)


async def test_a_round_releases_no_more_than_the_timekeeper_has_room_for(pool: Pool, bus: Bus) -> None:
    for application_id, count in ((MANY, ROOM * 2), (FEW, 10), (STOPPED, 10)):
        await hold(pool, application_id, count)
    await hold(pool, STOPPED, 5, "fcm")

    async def stops(_: ListStops) -> Stops:
        return Stops([Stop(STOPPED, "apns", "key:k", "", 0), Stop(new_id(), "*", "key:k", "", 0)])

    await bus.serve("application", {"stops": (ListStops, stops)})
    release = Release(pool, bus, FakeClock(), 30)
    await release.round()
    first = await due(pool)
    assert (first[FEW], first[STOPPED], 0 < first[MANY] <= ROOM) == (10, 5, True)
    for _ in range(5):
        await release.round()
    assert sum((await due(pool)).values()) <= ROOM, "nobody takes them, so no more are released"
    async with pool.connection() as c:
        await c.execute("DELETE FROM lifecycle.due WHERE due_at <= now()")
    for _ in range(5):
        await release.round()
    assert (await due(pool))[MANY] > first[MANY] / 2


async def test_while_nobody_knows_the_stops_nothing_is_released(pool: Pool, bus: Bus) -> None:
    await hold(pool, MANY, 3)
    with pytest.raises(ServiceUnavailable):
        await Release(pool, bus, FakeClock(), 30).round()
    assert not await due(pool)


async def test_nobody_is_asked_while_nothing_is_held(pool: Pool, bus: Bus) -> None:
    await Release(pool, bus, FakeClock(), 30).round()


async def test_the_held_are_found_in_few_steps_however_many_they_are(pool: Pool) -> None:
    await hold(pool, MANY, 3000)
    await hold(pool, FEW, 3000, "fcm")
    async with pool.connection() as c:
        assert set(await queries_stops.held(c)) == {(MANY, "emergency_stop:apns"), (FEW, "emergency_stop:fcm")}
        rows = await c.fetch(f"EXPLAIN (ANALYZE) {queries_stops.HELD}")
    plan = "\n".join(row[0] for row in rows)
    assert "Seq Scan" not in plan, plan
