"""One replica at a time: a session's advisory lock, held on a connection of its own."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from libs import telemetry
from libs.errors import ServiceUnavailable
from libs.pg import UNAVAILABLE, Connection, single_connection

from . import queries

STAND_BY_SECONDS = 1.0
SILENT_SECONDS = 5.0
"""After which the lock's connection counts as lost."""
_log = telemetry.logger("leader")


async def lead(url: str, name: str, work: Callable[[], Awaitable[None]], stopping: asyncio.Event) -> None:
    """Run `work` while this process holds the lock `name`; stand by otherwise. Returns when stopping.

    Losing the lock's connection ends `work` at once. A short overlap with the next leader does no harm: the relay
    repeats, and timekeeper and reconciler take what they change under row locks.
    """
    while not stopping.is_set():
        with contextlib.suppress(ServiceUnavailable, *UNAVAILABLE):
            async with single_connection(url) as connection:
                if await connection.fetchval(queries.TRY_LOCK, name):
                    _log.info("leading", part=name)
                    await _while_connected(connection, work, stopping)
        await _pause(STAND_BY_SECONDS, stopping)


async def _while_connected(
    connection: Connection, work: Callable[[], Awaitable[None]], stopping: asyncio.Event
) -> None:
    """The lock is asked for: a server that lost its power does not close its connections, and another has the lock."""
    task = asyncio.ensure_future(work())
    try:
        while not task.done() and not stopping.is_set():
            await connection.fetchval("SELECT true", timeout=SILENT_SECONDS)
            await asyncio.wait({task}, timeout=0.5)
        if task.done():
            task.result()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task


async def every(seconds: float, step: Callable[[], Awaitable[bool]], name: str) -> None:
    """Repeat `step`, at once while it says that there is more. A failing round is counted, logged and repeated."""
    failures = telemetry.counter("background_failures_total", part=name)
    while True:
        try:
            more = await step()
        except ServiceUnavailable:
            more = False
        except Exception as error:
            failures.inc()
            _log.error("round_failed", part=name, exc_info=error)
            more = False
        await asyncio.sleep(0 if more else seconds)


async def _pause(seconds: float, stopping: asyncio.Event) -> None:
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(stopping.wait(), seconds)
