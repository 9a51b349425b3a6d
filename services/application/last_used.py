"""When keys were last used: noted beside authentication, never in its way."""

import asyncio
import contextlib

from libs import telemetry
from libs.errors import ServiceUnavailable
from libs.pg import Pool
from services.application import queries

PAUSE_SECONDS = 1.0
"""At least so long from one statement to the next; what comes meanwhile goes together."""
MAX_WAITING = 10_000
"""Keys; one that finds no room is noted at its next use."""
_log = telemetry.logger("last_used")


class LastUsed:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting: set[str] = set()
        self._some = asyncio.Event()
        self._stopping = asyncio.Event()
        self._failures = telemetry.counter("background_failures_total", part="last_used")

    def note(self, key_id: str) -> None:
        if len(self._waiting) < MAX_WAITING:
            self._waiting.add(key_id)
            self._some.set()

    async def run(self) -> None:
        while True:
            await self._some.wait()
            self._some.clear()
            await self._write()
            if self._stopping.is_set():
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), PAUSE_SECONDS)

    async def stop(self) -> None:
        self._stopping.set()
        self._some.set()

    async def _write(self) -> None:
        """A failure costs no more than that these keys are noted at their next use."""
        noted, self._waiting = self._waiting, set()
        if not noted:
            return
        try:
            async with self._pool.connection() as c:
                await queries.note_keys_used(c, list(noted))
        except ServiceUnavailable:
            _log.debug("not_noted", keys=len(noted))
        except Exception as error:
            self._failures.inc()
            _log.error("not_noted", keys=len(noted), exc_info=error)
