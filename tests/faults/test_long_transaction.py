"""A write transaction left open in another database holds back the tail of the log: late, not lost (R13)."""

import time
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.faults.story import Story, hold, writing_connection
from tests.faults.system import until

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

pytestmark = pytest.mark.faults

HELD_SECONDS = 20.0
LAG_SECONDS = 5.0
NEVER_END = """
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
CREATE TABLE held_open (n integer);
"""
XID = "SELECT pg_current_xact_id()::text::bigint"
BURN = """
DO $$ BEGIN FOR n IN 1 .. {} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$
"""
BELOW = 40
"""Transactions left until their ids have one digit more: the tail that waits will have ids of both lengths."""


async def test_the_tail_waits_and_skips_nothing(story: Story) -> None:
    dsn = story.system.runtime.postgres_dsn
    async with writing_connection(dsn) as ours:
        await ours.execute("CREATE DATABASE elsewhere")
        async with writing_connection(_database(dsn, "elsewhere")) as writer:
            await writer.execute(NEVER_END)
            await hold_back(story, ours, writer)
    report = await story.check("long-transaction")
    assert report.repeats == 0


async def hold_back(story: Story, ours: Connection, writer: Connection) -> None:
    """Messages flow while `writer` keeps a transaction open; its end is that of the block."""
    held_from = time.monotonic()
    async with writer.transaction():
        await writer.execute("INSERT INTO held_open VALUES (1)")
        async with story.flow() as flow:
            await flow.reached(0.2)
            await near_a_longer_id(ours)
            await until(lambda: lag_above(story, LAG_SECONDS), "the relay's lag is seen", HELD_SECONDS + 10)
        await hold(HELD_SECONDS - (time.monotonic() - held_from))
        story.notes["relay_lag_seconds"] = await lag(story)


async def near_a_longer_id(connection: Connection) -> None:
    now = await connection.fetchval(XID)
    await connection.execute(BURN.format(max(0, 10 ** len(str(now)) - now - BELOW)))


async def lag(story: Story) -> float:
    return await story.system.metric("lifecycle", "automata_relay_lag_seconds")


async def lag_above(story: Story, seconds: float) -> bool:
    return await lag(story) > seconds


def _database(dsn: str, name: str) -> str:
    """The same server, another database."""
    address, _, query = dsn.partition("?")
    return address.rsplit("/", 1)[0] + f"/{name}" + (f"?{query}" if query else "")
