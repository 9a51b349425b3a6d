"""Lanes share one pool of connections: whatever holds those of all others, critical messages have theirs (R10)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from libs import pg
from libs.bus import Bus
from libs.config import Database as DatabaseSettings
from libs.envelope import Lane, Outcome
from libs.errors import ServiceUnavailable
from libs.pg import Connection, Pool, connect_pool, single_connection
from libs.rpc import Idempotency, Known, KnownOutcomes, LookUpIdempotency, Replay
from libs.subjects import dispatch, stream_of
from tests.contract.lifecycle_harness import APPLICATION, LifecycleHarness, lifecycle
from tests.contract.streams_harness import tapped
from tests.databases import Database
from tests.waiting import until

POOL, RESERVE = 6, 3
"""Of the harness: never more than half is kept."""
AT_ONCE = 2.0
"""Seconds: less than half of what somebody waits for a connection, or a statement for its end."""
BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
STATUS = "SELECT status FROM lifecycle.messages WHERE id = $1"


@pytest.fixture
async def service(database: Database, bus: Bus, key_ring_file: Path) -> AsyncIterator[LifecycleHarness]:
    async with lifecycle(database, bus, key_ring_file) as harness:
        yield harness


def sent(message_id: str) -> Outcome:
    return Outcome(message_id, "sent", 1, "call-1", 0, data={"provider": "apns"})


async def accepted(service: LifecycleHarness, lane: Lane, *, key: str | None = None) -> str:
    message = service.message(lane)
    await service.accept(message, idempotency=None if key is None else Idempotency(key, b"f", b"answer"))
    return message.message_id


@contextlib.asynccontextmanager
async def nothing_moves(service: LifecycleHarness) -> AsyncIterator[Connection]:
    """Transactions of bulk messages wait for rows that somebody has locked, on every connection they may have."""
    bulk = [await accepted(service, "bulk") for _ in range(2 * POOL)]
    async with single_connection(service.database.admin_dsn) as c:
        async with c.transaction():
            await c.execute("SELECT FROM lifecycle.messages WHERE id = ANY ($1::uuid[]) FOR UPDATE", bulk)

            async def held() -> bool:
                return bool(await c.fetchval(BLOCKED) == POOL - RESERVE)

            for message_id in bulk:
                await service.report(sent(message_id), lane="bulk")
            await until(held, "bulk has all that it may have")
            yield c
            assert await held(), "and no more than that"
        await until(lambda: _are(c, bulk, "successful"), "bulk went on when it could")


async def _are(c: Connection, messages: list[str], status: str) -> bool:
    return {str(await c.fetchval(STATUS, message_id)) for message_id in messages} == {status}


async def test_critical_messages_are_accepted_and_recorded_while_bulk_holds_all_it_may(
    service: LifecycleHarness,
) -> None:
    async with nothing_moves(service) as c:
        async with asyncio.timeout(AT_ONCE):
            critical = [await accepted(service, "critical", key=f"key-{n}") for n in range(5)]
        for message_id in critical:
            await service.report(sent(message_id), lane="critical")
        await until(lambda: _are(c, critical, "successful"), "recorded", AT_ONCE)


async def test_whatever_a_critical_message_needs_has_a_connection(service: LifecycleHarness) -> None:
    async with (
        tapped(service.bus, stream_of("DISPATCH", "critical"), dispatch("critical"), "dispatcher") as tap,
        nothing_moves(service),
        asyncio.timeout(2 * AT_ONCE),
    ):
        message_id = await accepted(service, "critical")
        await (await tap.raw()).ack()
        await service.report(Outcome(message_id, "errored", 1, "call-1", 0, "Reset", "network"), lane="critical")
        await (await tap.raw()).ack()  # its next attempt: it waited in `due`
        known = KnownOutcomes("critical", {message_id: 1})
        assert (await service.bus.call("lifecycle", "known_outcomes", known, Known)).settled == [message_id]
        question = LookUpIdempotency(APPLICATION, "nobody's", b"f")
        assert (await service.bus.call("lifecycle", "replay", question, Replay)).answer is None


async def test_all_others_wait_for_those_who_hold_what_they_share(service: LifecycleHarness) -> None:
    async with nothing_moves(service):
        waiting = [asyncio.create_task(accepted(service, lane)) for lane in ("normal", "bulk") for _ in range(4)]
        await accepted(service, "critical")  # a whole acceptance, which came after theirs
        assert not any(task.done() for task in waiting)
    await asyncio.gather(*waiting)


async def test_who_waits_for_a_turn_is_told_in_time(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pg, "ACQUIRE_SECONDS", 0.2)
    async with doors(database, 2, reserve=1) as pool:
        async with pool.connection():
            for _ in range(3):
                with pytest.raises(ServiceUnavailable):
                    async with pool.connection():
                        raise AssertionError("there is one only")
            assert await pool.of("critical").is_ready()
        assert await pool.is_ready()


async def test_a_turn_is_given_back_whatever_becomes_of_it(database: Database) -> None:
    async with doors(database, 2, reserve=1) as pool:
        with pytest.raises(asyncpg.PostgresError):
            async with pool.transaction() as c:
                await c.execute("SELECT 1 / 0")
        async with pool.connection():
            given_up = asyncio.create_task(pool.is_ready())
            await asyncio.sleep(0)
            given_up.cancel()
            await asyncio.wait({given_up}, timeout=5)
        await asyncio.gather(*(pool.is_ready() for _ in range(10)))


@pytest.mark.parametrize(("size", "shared"), [(1, 1), (2, 1), (5, 3), (16, 12)])
async def test_a_small_pool_keeps_no_more_than_half(database: Database, size: int, shared: int) -> None:
    async with doors(database, size, reserve=4) as pool, contextlib.AsyncExitStack() as held:
        for _ in range(shared):
            await held.enter_async_context(pool.connection())
        further = asyncio.create_task(pool.is_ready())
        for _ in range(size - shared):
            await held.enter_async_context(pool.of("critical").connection())
        assert not further.done()
        await held.aclose()
        assert await further


@contextlib.asynccontextmanager
async def doors(database: Database, size: int, reserve: int) -> AsyncIterator[Pool]:
    pool = await connect_pool(DatabaseSettings(url=database.dsn("lifecycle"), pool=size), reserve=reserve)
    try:
        yield pool
    finally:
        await pool.close()
