"""The one counter of an application's requests, from which all gateways lease."""

import asyncio
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest

from libs import rpc
from libs.bus import Bus
from libs.errors import ResourceNotFound
from libs.pg import single_connection
from tests.databases import Database

pytest_plugins = ["tests.contract.application_fixtures"]

OLD = "INSERT INTO application.rate_windows VALUES ($1, now() - $2::text::interval, 1, 1)"


async def lease(bus: Bus, application_id: str, limit: int, want: int) -> rpc.Lease:
    return await bus.call("application", "lease", rpc.LeaseRequests(application_id, limit, want), rpc.Lease)


async def until_window_begins(bus: Bus, application_id: str, seconds: float) -> None:
    """Until this minute has at least `seconds` left, so that a test runs within one."""
    while True:
        seen = await lease(bus, application_id, 1, 0)
        left = seen.window_ends_ms - seen.now_ms
        if left > seconds * 1000:
            return
        await asyncio.sleep(left / 1000)


@pytest.mark.parametrize("want", [1, 7, 50])
async def test_fifty_callers_and_two_replicas_get_the_limit_exactly(
    bus: Bus, application_id: str, second_replica: None, want: int
) -> None:
    await until_window_begins(bus, application_id, 10)
    limit, rounds = 300, max(8, 2 * 300 // (50 * want))

    async def caller() -> list[rpc.Lease]:
        return [await lease(bus, application_id, limit, want) for _ in range(rounds)]

    leases = [each for some in await asyncio.gather(*(caller() for _ in range(50))) for each in some]
    granted: dict[int, int] = defaultdict(int)
    for each in leases:
        granted[each.window_ends_ms] += each.granted
        assert 0 <= each.granted <= want
        assert 0 <= each.remaining <= limit
    assert list(granted.values()) == [limit]


async def test_applications_do_not_share(bus: Bus, application_id: str, stranger_id: str) -> None:
    await until_window_begins(bus, application_id, 5)
    mine, theirs = await asyncio.gather(lease(bus, application_id, 10, 10), lease(bus, stranger_id, 10, 10))
    assert (mine.granted, theirs.granted) == (10, 10)
    assert (await lease(bus, application_id, 10, 1)).granted == 0


async def test_a_window_is_a_minute_of_postgres_clock(bus: Bus, application_id: str) -> None:
    found = await lease(bus, application_id, 10, 1)
    assert found.window_ends_ms % 60_000 == 0
    assert 0 < found.window_ends_ms - found.now_ms <= 60_000
    assert abs(datetime.fromtimestamp(found.now_ms / 1000, UTC) - datetime.now(UTC)) < timedelta(minutes=1)


async def test_a_changed_tier_counts_what_was_granted_before(bus: Bus, application_id: str) -> None:
    await until_window_begins(bus, application_id, 5)
    assert (await lease(bus, application_id, 300, 300)).granted == 300
    assert (await lease(bus, application_id, 1000, 1000)).granted == 700
    lowered = await lease(bus, application_id, 300, 10)
    assert (lowered.granted, lowered.remaining) == (0, 0)


async def test_looking_takes_nothing(bus: Bus, application_id: str) -> None:
    await until_window_begins(bus, application_id, 5)
    seen = [await lease(bus, application_id, 10, 0) for _ in range(3)]
    assert [(each.granted, each.remaining) for each in seen] == [(0, 10)] * 3


@pytest.mark.parametrize(("limit", "want"), [(2**62, 2**62), (-5, 5), (5, -5), (0, 0)])
async def test_absurd_numbers_are_bounded(bus: Bus, application_id: str, limit: int, want: int) -> None:
    for _ in range(3):
        found = await lease(bus, application_id, limit, want)
        assert found.granted >= 0
        assert found.remaining >= 0


async def test_what_is_no_application_leases_nothing_and_spoils_nobodys_batch(bus: Bus, application_id: str) -> None:
    answers = await asyncio.gather(
        *(lease(bus, each, 10, 1) for each in ("nonsense", application_id) * 3), return_exceptions=True
    )
    assert all(isinstance(answer, ResourceNotFound) for answer in answers[::2])
    assert all(isinstance(answer, rpc.Lease) for answer in answers[1::2])


async def test_old_windows_are_deleted(bus: Bus, application_id: str, stranger_id: str, database: Database) -> None:
    async with single_connection(database.admin_dsn) as c:
        for age in ("3 minutes", "2 days"):
            await c.execute(OLD, stranger_id, age)
        await lease(bus, application_id, 10, 1)
        found = await c.fetch("SELECT application_id FROM application.rate_windows")
    assert [str(row["application_id"]) for row in found] == [application_id]
