"""While weeks are made and put away nobody waits for long, neither for the work nor behind its wait for a reader."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from libs.errors import ServiceUnavailable
from libs.ids import new_id
from libs.pg import Pool, single_connection
from services.lifecycle import queries, queries_accept
from services.lifecycle.partitions import AHEAD, Partitions
from tests.contract.aged_log import AgedLog, midday, monday
from tests.databases import Database

pytest_plugins = ["tests.contract.lifecycle_fixtures"]

BOUND_SECONDS = 0.3
WRITERS = 4


@pytest.fixture
def pool_size() -> int:
    return 12


class Traffic:
    """Messages are accepted, locked, reported on and folded, without a pause."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.slowest = 0.0
        self.done = 0

    async def write(self) -> None:
        application_id = new_id()
        while True:
            ids = [new_id() for _ in range(5)]
            events: list[tuple[object, ...]] = [(i, "created", 1, "", application_id, {}, b"") for i in ids]
            messages = [
                (i, application_id, new_id(), "apns", "normal", "info", 60, new_id(), None, None, None, None)
                for i in ids
            ]
            sent: list[tuple[object, ...]] = [(i, "sent", 1, "c", application_id, 0, None, {}) for i in ids]
            async with self._pool.transaction() as c:
                with self._timed():
                    await queries_accept.copy_created(c, events, messages)
            async with self._pool.transaction() as c:
                with self._timed():
                    await queries.lock_messages(c, ids)
                with self._timed():
                    await queries.append(c, sent)
                with self._timed():
                    await queries.update_projection(c, ids)
            async with self._pool.connection() as c:
                with self._timed():
                    await queries.message(c, ids[0], application_id)
            self.done += 1

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.slowest = max(self.slowest, time.perf_counter() - began)

    async def rounds(self, count: int) -> float:
        """The slowest statement within so many rounds from now."""
        self.slowest, until = 0.0, self.done + count
        async with asyncio.timeout(60):
            while self.done < until:
                await asyncio.sleep(0.01)
        return self.slowest


@contextlib.asynccontextmanager
async def traffic(pool: Pool) -> AsyncIterator[Traffic]:
    found = Traffic(pool)
    writers = [asyncio.create_task(found.write()) for _ in range(WRITERS)]
    try:
        await found.rounds(WRITERS * 5)
        yield found
        assert not any(writer.done() for writer in writers)
    finally:
        for writer in writers:
            writer.cancel()
        await asyncio.gather(*writers, return_exceptions=True)


async def worked(step: Callable[[], Awaitable[bool]]) -> bool:
    """It had the locks it needs, or needed none."""
    try:
        while await step():
            pass
    except ServiceUnavailable:
        return False
    return True


async def test_traffic_goes_on_while_weeks_come_and_go_beside_a_long_reader(pool: Pool, database: Database) -> None:
    log, weeks = AgedLog(pool, database), Partitions(pool, 90)
    old = [await log.past_week(n) for n in (20, 21)]
    for week in old:
        await log.message(midday(week), ("sent", midday(week)))
    await log.read_all()
    missing = [monday(AHEAD), monday(AHEAD - 1)]
    for week in missing:
        await log.forget_week(week)
    async with traffic(pool) as load:
        noise = await load.rounds(100)
        async with single_connection(database.admin_dsn) as reader, reader.transaction():
            await reader.fetchval("SELECT count(*) FROM lifecycle.messages JOIN lifecycle.message_events ON true")
            load.slowest = 0.0
            for _ in range(4):
                assert not await worked(weeks.make_ahead)
                assert not await worked(weeks.put_away)
                both = await asyncio.gather(*(worked(Partitions(pool, 90).put_away) for _ in range(2)))
                assert not any(both)
            beside_reader = max(load.slowest, await load.rounds(20))
            assert [await log.where(week) for week in (*old, *missing)] == [{"lifecycle"}] * 2 + [set()] * 2
        load.slowest = 0.0
        async with asyncio.timeout(30):
            while not (await worked(weeks.make_ahead) and await worked(weeks.put_away)):
                await asyncio.sleep(0)
        at_work = max(load.slowest, await load.rounds(20))
    assert [await log.where(week) for week in (*old, *missing)] == [{"lifecycle_archive"}] * 2 + [{"lifecycle"}] * 2
    assert beside_reader < BOUND_SECONDS + noise, f"{beside_reader:.3f} s beside a reader, {noise:.3f} s without"
    assert at_work < BOUND_SECONDS + noise, f"{at_work:.3f} s while it worked, {noise:.3f} s without"
