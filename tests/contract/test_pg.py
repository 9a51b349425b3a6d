"""A pool finds the server that takes changes, whatever became of the one that did."""

import asyncio
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from libs import pg
from libs.config import Database as Settings
from libs.errors import ServiceUnavailable
from libs.pg import Pool, connect_pool, single_connection
from services.lifecycle import leader
from tests.contract.mute_server import MuteServer, before
from tests.contract.streams_harness import until
from tests.databases import Database
from tests.servers import free_port

BACKEND = "SELECT pg_backend_pid()"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {
        "PULSE_SECONDS": 0.05,
        "SILENT_SECONDS": 0.5,
        "HOST_SECONDS": 1.0,
        "CLOSE_SECONDS": 0.5,
    }.items():
        monkeypatch.setattr(pg, name, seconds)


@pytest.fixture
async def mute(database: Database) -> AsyncIterator[MuteServer]:
    parts = urlsplit(database.dsn("lifecycle"))
    async with before(parts.hostname or "", parts.port or 5432) as found:
        yield found


def at(database: Database, *ports: int) -> str:
    """The DSN of lifecycle with these ports of this machine before the one of the database itself."""
    parts = urlsplit(database.dsn("lifecycle"))
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}@{','.join([*(f'127.0.0.1:{port}' for port in ports), host])}").geturl()


def only(database: Database, port: int) -> str:
    return at(database, port).replace(f",{urlsplit(database.dsn('lifecycle')).netloc.rpartition('@')[2]}", "")


async def answers(pool: Pool) -> bool:
    try:
        return await pool.is_ready()
    except ServiceUnavailable:
        return False


async def test_a_host_that_is_down_is_passed_over(database: Database) -> None:
    pool = await connect_pool(Settings(url=at(database, free_port())))
    assert await pool.is_ready()
    await pool.close()


async def test_a_host_that_says_nothing_is_passed_over(database: Database, mute: MuteServer) -> None:
    mute.fall_silent()
    pool = await connect_pool(Settings(url=at(database, mute.port)))
    assert await pool.is_ready()
    await pool.close()
    async with single_connection(at(database, mute.port)) as connection:
        assert await connection.fetchval("SELECT true")


async def test_a_host_that_takes_no_changes_is_passed_over(database: Database) -> None:
    async with single_connection(database.admin_dsn) as admin:
        await admin.execute("ALTER ROLE automata_templating SET default_transaction_read_only = on")
        try:
            with pytest.raises(pg.UNAVAILABLE):
                async with single_connection(at(database, free_port()).replace("lifecycle", "templating")):
                    pass
        finally:
            await admin.execute("ALTER ROLE automata_templating RESET default_transaction_read_only")


async def test_a_server_that_falls_silent_is_left_for_the_next(database: Database, mute: MuteServer) -> None:
    pool = await connect_pool(Settings(url=at(database, mute.port)))
    await until(lambda: mute.connections == 2)  # one is its pulse

    async def wait() -> None:
        async with pool.connection() as c:
            mute.fall_silent()
            await c.fetchval("SELECT true")

    with pytest.raises(ServiceUnavailable):  # much sooner than its statement may take
        await asyncio.wait_for(wait(), 5)
    await until(lambda: answers(pool), 10)
    await pool.close()


async def test_while_the_only_server_is_silent_everybody_is_told_at_once(database: Database, mute: MuteServer) -> None:
    pool = await connect_pool(Settings(url=only(database, mute.port)))
    assert await pool.is_ready()
    await until(lambda: mute.connections == 2)
    mute.fall_silent()
    await until(lambda: pool._server.silent)
    started = time.monotonic()
    for _ in range(20):
        with pytest.raises(ServiceUnavailable):
            await pool.is_ready()
    assert time.monotonic() - started < 0.5
    mute.speak()
    await until(lambda: answers(pool), 10)
    await pool.close()


async def test_connections_to_a_server_that_became_read_only_are_dropped(database: Database) -> None:
    pool = await connect_pool(Settings(url=database.dsn("lifecycle"), pool=1))
    async with pool.connection() as c:
        before = await c.fetchval(BACKEND)
        await c.execute("SET default_transaction_read_only = on")
    with pytest.raises(ServiceUnavailable):
        async with pool.connection() as c:
            await c.execute("UPDATE lifecycle.cursors SET position = 0")
    async with pool.connection() as c:
        assert await c.fetchval(BACKEND) != before
        await c.execute("UPDATE lifecycle.cursors SET position = 0")
    await pool.close()


async def test_a_leader_whose_server_falls_silent_leads_no_more(
    database: Database, mute: MuteServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leader, "SILENT_SECONDS", 0.5)
    led: list[str] = []

    async def work() -> None:
        led.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            led.append("ended")

    stopping = asyncio.Event()
    leading = asyncio.create_task(leader.lead(at(database, mute.port), "test", work, stopping))
    await until(lambda: led == ["begun"])
    mute.fall_silent()
    await until(lambda: led[:2] == ["begun", "ended"])
    stopping.set()
    await leading
